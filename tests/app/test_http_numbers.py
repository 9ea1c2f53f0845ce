"""Numbers of clients over HTTP: plain digits in every place, so that nobody on the way reads another number."""

import httpx
import pytest

from tests.app.test_http_parameters import IMAGE, JPEG, PHOTO, as_json, field, form, raw, refused


@pytest.mark.parametrize("text", ["5_000", "+5000", " 5000", "5000.0", "٣", "5e3", "0x1388", "５０００"])
def test_a_deadline_is_in_plain_digits_wherever_it_is_said(client: httpx.Client, text: str) -> None:
    for response in (
        client.post("/predict", params={"deadline_ms": text}, content=PHOTO, headers=JPEG),
        as_json(client, deadline_ms=text),
        form(client, IMAGE, field("deadline_ms", f"0{text}" if text.startswith(" ") else text)),
        client.delete("/adapters/nobody", params={"revision": text}),
        client.get("/adapters/default/file", params={"revision": text}),
    ):
        refused(response, 422, "a whole number in plain digits")


@pytest.mark.parametrize("header", [b"5_000", b"+5000", b"\xa05000", b"5000.0", b"\xb2"])
def test_a_deadline_in_a_header_is_in_plain_digits(client: httpx.Client, header: bytes) -> None:
    sent = [(b"Content-Type", b"image/jpeg"), (b"X-Deadline-Ms", header)]
    refused(client.post("/predict", content=PHOTO, headers=sent), 422, "a whole number in plain digits")
    assert client.post("/v2/models/default/infer", json={}, headers=[(b"X-Deadline-Ms", header)]).status_code == 422


def test_right_numbers_are_taken_wherever_they_stand(client: httpx.Client) -> None:
    answers = [
        raw(client, "deadline_ms=020000", [("X-Deadline-Ms", "20000")]),
        as_json(client, deadline_ms=20_000),
        as_json(client, deadline_ms=20_000.0),  # a number of JSON, which has one kind of them
        as_json(client, deadline_ms="20000"),
        form(client, IMAGE, field("deadline_ms", "20000\n")),
        client.get("/adapters/default/file?revision=01"),
    ]
    assert [answer.status_code for answer in answers] == [200] * 6
    for value in (20_000.5, True, [20_000]):
        refused(as_json(client, deadline_ms=value), 422, "deadline_ms")
