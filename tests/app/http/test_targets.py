"""Whatever form a target has, its path is found, and no host of it."""

import pytest

from app.http.targets import path_of, target_fault


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/tasks", b"/tasks"),
        (b"/", b"/"),
        (b"/tasks/", b"/tasks"),
        (b"/tasks//", b"/tasks//"),
        (b"//", b"//"),
        (b"//evil.example/tasks/", b"//evil.example/tasks"),
        (b"/tasks%2f", b"/tasks%2f"),
        (b"/docs/", b"/docs/"),
        (b"http://evil.example", b"/"),
        (b"http://evil.example/", b"/"),
        (b"HTTP://user@evil.example:80/a/b/", b"/a/b"),
        (b"https://[::1]/a", b"/a"),
        (b"http://evil.example//a", b"//a"),
        (b"/http://evil.example/a", b"/http://evil.example/a"),
    ],
)
def test_path(target: bytes, path: bytes) -> None:
    assert target_fault("GET", target) is None
    assert path_of(target) == path


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", b""),
        ("GET", b"livez"),
        ("GET", b"*"),
        ("GET", b"**"),
        ("OPTIONS", b"*/"),
        ("GET", b"http:/livez"),
        ("GET", b"http:///livez"),
        ("GET", b"http://"),
        ("GET", b"ftp://x/livez"),
        ("GET", b"evil.example:80"),
        ("CONNECT", b"evil.example:80"),
        ("A" * 5000, b"x" * 5000),
    ],
)
def test_what_is_no_target(method: str, target: bytes) -> None:
    fault = target_fault(method, target)
    assert fault is not None
    status, reason = fault
    assert status == 400
    assert 0 < len(reason) < 250


def test_the_question_about_everything() -> None:
    assert target_fault("OPTIONS", b"*") is None
