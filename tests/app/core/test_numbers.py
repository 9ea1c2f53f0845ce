"""Numbers as clients may write them, and as Python would read them too."""

from typing import Annotated

import pytest
from pydantic import BaseModel, Field, ValidationError

from app.core.numbers import PLAIN, PLAIN_DECIMAL, SWITCH, plain_digits, quality_of


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


class Measured(BaseModel):
    number: Annotated[float, PLAIN_DECIMAL] = 0
    switch: Annotated[bool, SWITCH] = False


@pytest.mark.parametrize(
    ("value", "number"), [("0.5", 0.5), (".5", 0.5), ("1.", 1), ("-2", -2), (0.5, 0.5), (1e-3, 1e-3), (3, 3)]
)
def test_decimals(value: object, number: float) -> None:
    assert Measured.model_validate({"number": value}).number == number


@pytest.mark.parametrize(
    "value", ["5e-1", "1E3", "0,5", "+1", " 1", "1_0", "nan", "inf", "", ".", "٠.٥", True, None, [1]]
)
def test_what_is_no_decimal(value: object) -> None:
    with pytest.raises(ValidationError, match=r"a number in plain digits, such as 0\.5"):
        Measured.model_validate({"number": value})


@pytest.mark.parametrize("value", [True, 1, "true", "True", "TRUE", "1", "yes", "on"])
def test_yes(value: object) -> None:
    assert Measured.model_validate({"switch": value}).switch is True


@pytest.mark.parametrize("value", [False, 0, "false", "False", "0", "no", "off"])
def test_no(value: object) -> None:
    assert Measured.model_validate({"switch": value}).switch is False


@pytest.mark.parametrize("value", ["", "t", "y", "2", 2, -1, 1.0, "truе", " true", None, [], {}, "enabled"])
def test_neither(value: object) -> None:
    with pytest.raises(ValidationError, match="should be true or false"):
        Measured.model_validate({"switch": value})


@pytest.mark.parametrize(
    ("number", "text"), [(5e3, "5000"), (5000.0, "5000"), (1e-3, "0.001"), (0.1, "0.1"), (-2.5, "-2.5")]
)
def test_a_number_of_json_as_text(number: float, text: str) -> None:
    assert plain_digits(number) == text


@pytest.mark.parametrize("value", [True, 5.5, None, [5]])
def test_what_is_no_whole_number_of_json(value: object) -> None:
    with pytest.raises(ValidationError, match="a whole number in plain digits"):
        Whole.model_validate({"number": value})


class Whole(BaseModel):
    number: Annotated[int, PLAIN]
