"""What may be asked of a prediction, in plain digits; what is no option is said."""

from typing import Any

import pytest

from mtlora.client.wishes import Options, said
from mtlora.vocabulary.errors import RemoteError


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, {}),
        ({"adapter": "", "deadline_ms": None, "compute": "", "size": ""}, {}),
        ({"compute": 0.6, "size": 640, "edges": "nearest"}, {"compute": "0.6", "size": "640", "edges": "nearest"}),
        ({"compute": "0.5-1", "size": "model"}, {"compute": "0.5-1", "size": "model"}),
        ({"compute": 1e-5, "deadline_ms": 10**7}, {"compute": "0.00001", "deadline_ms": "10000000"}),
    ],
)
def test_what_is_said_is_plain_text(options: Options, parameters: dict[str, str]) -> None:
    assert said(options) == parameters


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"computes": 0.6},
            "no option 'computes' of a prediction; there are deadline_ms, compute, edges, size, tiles, adapter",
        ),
        ({"compute": True}, "compute is a number or text, got True"),
        ({"size": (3, 4)}, r"size is a number or text, got \(3, 4\)"),
    ],
)
def test_what_is_no_option_is_refused(options: Any, words: str) -> None:
    with pytest.raises(RemoteError, match=words):
        said(options)
