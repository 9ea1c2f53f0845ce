"""What a hostile request is made of, and a case: a request with the answers that are right."""

from collections.abc import Callable
from dataclasses import dataclass, field

from testing.serving import Weights

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
REFUSED = frozenset({422})
NO_IMAGE = frozenset({415, 422})
ANY_ANSWER = frozenset({200, 413, 415, 422})  # a flipped bit may leave a readable photo
FORM = {"Content-Type": "multipart/form-data; boundary=edge"}


@dataclass(frozen=True)
class Request:
    """One HTTP request; `raw` if no client library would send it."""

    path: str = "/predict"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""


@dataclass(frozen=True)
class Case:
    """A request that must be refused, and how."""

    name: str
    make: Callable[[Weights], Request]
    expected: frozenset[int]


def upload(content: bytes, **fields: str) -> Request:
    """A well-formed form with a file that is not what it says."""
    fields = {"name": "hostile", **fields}
    parts = [part(f'name="{key}"', value.encode()) for key, value in fields.items()]
    return Request("/adapters", form(*parts, part('name="file"; filename="f"', content)), FORM)


def photo(content: bytes, media: str = "image/jpeg") -> Request:
    """A photo as the whole body."""
    return Request(body=content, headers={"Content-Type": media})


def document(text: str | bytes) -> Request:
    """A JSON body."""
    return Request(
        body=text if isinstance(text, bytes) else text.encode(), headers={"Content-Type": "application/json"}
    )


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    """One part of a form."""
    lines = [f"Content-Disposition: form-data; {disposition}", *headers]
    return b"--edge\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + b"--edge--\r\n"


def cats(weights: Weights) -> bytes:
    """A good file to start from."""
    return weights.upload("cats")
