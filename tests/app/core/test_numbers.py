"""Numbers as clients may write them, and as Python would read them too."""

from typing import Annotated

import pytest
from pydantic import BaseModel, Field, ValidationError

from app.core.numbers import PLAIN, quality_of


class Asked(BaseModel):
    number: Annotated[int, Field(ge=1, le=1000), PLAIN] | None = None


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("050", 50), ("1000", 1000), (7, 7), (None, None)])
def test_plain_digits_are_a_number(text: object, number: int | None) -> None:
    assert Asked.model_validate({"number": text}).number == number


@pytest.mark.parametrize(
    "text",
    [
        "5_0",
        "+5",
        " 5",
        "5 ",
        "5\n",
        "\xa05",
        "٣",
        "５",
        "²",
        "5.0",
        "5e1",
        "0x5",
        "",
        "-",
        "--5",
        "nan",
        "inf",
        "five",
    ],
)
def test_what_else_python_would_read_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="a whole number in plain digits, such as 5000"):
        Asked.model_validate({"number": text})


@pytest.mark.parametrize("text", ["-5", "0", "1001", "9" * 5000])
def test_bounds_are_told_of_numbers(text: str) -> None:
    with pytest.raises(ValidationError, match=r"greater than|less than|exceeded maximum size"):
        Asked.model_validate({"number": text})


def test_what_the_schema_says_of_it() -> None:
    (schema, _) = Asked.model_json_schema()["properties"]["number"]["anyOf"]
    assert schema == {"type": "integer", "minimum": 1, "maximum": 1000}


@pytest.mark.parametrize(
    ("text", "quality"),
    [("1", 1), ("0.5", 0.5), ("1.000", 1), ("0.", 0), (".5", 0.5), ("0", 0), ("7", 1), ("9" * 400, 1)],
)
def test_qualities(text: str, quality: float) -> None:
    assert quality_of(text) == quality


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "-1", "0_1.0", "1_0", "1e0", "+1", " 1", "٠.٥", "0x1", "", ".", "½"]
)
def test_what_is_no_quality_is_none(text: str) -> None:
    assert quality_of(text) == 0
