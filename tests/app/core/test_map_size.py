"""Sizes of maps as clients may write them."""

import pytest
from pydantic import TypeAdapter, ValidationError

from app.core.map_size import MapSize

SIZE: TypeAdapter[str] = TypeAdapter(MapSize)


@pytest.mark.parametrize("text", ["photo", "model", "1", "640", "65535"])
def test_what_is_a_size(text: str) -> None:
    assert SIZE.validate_python(text) == text


@pytest.mark.parametrize("text", ["", "0", "-1", "640.0", "+640", " 640", "6e2", "65536", "Photo", "٦٤٠"])
def test_what_is_none_is_told_what_is(text: str) -> None:
    with pytest.raises(ValidationError, match="should be photo, model, or the pixels of the longer side from 1 to"):
        SIZE.validate_python(text)
