"""All requests of a client, as values: what is sent, what may be repeated, how the answer is read."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from mtlora.client.answers import AdapterList, AdapterSet, Pushed, ServerStatus, read_as, read_pushed, read_status
from mtlora.client.limits import Limits
from mtlora.client.maps import (
    Pictures,
    Prediction,
    read_annotations,
    read_explained,
    read_pictures,
    read_png,
    read_prediction,
)
from mtlora.client.photos import Photo, photo_bytes, pixels_of
from mtlora.client.reply import Reply
from mtlora.client.wishes import Options, plain, said
from mtlora.vocabulary.errors import RemoteError
from mtlora.vocabulary.tasks import parse_tasks

T = TypeVar("T")

ANSWER_PIXEL_BYTES = 64  # all maps there are have 26, as arrays
ANNOTATION_FORMS = ("coco", "hf", "labelstudio", "cvat")
ANSWER_BYTES = 8 * 2**20  # beside them
FILE_NAME = "set.safetensors"  # of every upload: the server takes no note of it, and ours may be no Unicode


def _of_documents(limits: Limits) -> int:
    return limits.document_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request."""

    method: str
    path: str  # relative to the server's address
    read: Callable[[Reply], T]
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    json: object = None
    form: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None  # sent in the form, read from its beginning by every attempt
    repeatable: bool = True  # sending it twice does what sending it once does
    patient: bool = True  # sent again when the server is busy
    accepted: frozenset[int] = frozenset({200})
    most: Callable[[Limits], int] = _of_documents  # bytes of an accepted answer

    @contextmanager
    def arguments(self) -> Iterator[dict[str, Any]]:
        """What httpx needs beside method and path, for one attempt."""
        given: dict[str, Any] = {"params": dict(self.params) or None, "headers": dict(self.headers)}
        if self.content is not None:
            given["content"] = self.content
        if self.json is not None:
            given["json"] = self.json
        if self.file is None:
            yield given
            return
        try:
            opened = self.file.open("rb")
        except OSError as error:
            raise RemoteError(f"cannot read {self.file}: {error.strerror or error}") from error
        with opened as file:
            yield given | {"files": {"file": (FILE_NAME, file)}, "data": dict(self.form)}


def predict(photo: Photo, tasks: str | Iterable[str], options: Options, *, logits: bool) -> Call[Prediction]:
    """Maps as arrays."""
    params = {"format": "npz"} | ({"logits": "true"} if logits else {})
    return _prediction(photo, tasks, options, params, read_prediction)


def pictures(
    photo: Photo, tasks: str | Iterable[str], options: Options, *, masks: str, explain: bool
) -> Call[Pictures]:
    """Maps as PNG files; a picture of what was computed is told in JSON alone."""
    if explain:
        params = {"format": "json", "explain": "compute", "masks": masks}
        return _prediction(photo, tasks, options, params, read_explained)
    return _prediction(photo, tasks, options, {"format": "zip", "masks": masks}, read_pictures)


def overlay(photo: Photo, task: str, options: Options, *, style: str) -> Call[bytes]:
    """One map blended over the photo, as PNG."""
    params = {"format": "overlay", "style": style}
    return _prediction(photo, task, options, params, lambda reply, _: read_png(reply, reply.body))


def annotations(photo: Photo, task: str, form: str, options: Options, *, threshold: float | None) -> Call[Any]:
    """One map's masks in a form of other tools."""
    if form not in ANNOTATION_FORMS:
        raise RemoteError(f"form must be one of {', '.join(ANNOTATION_FORMS)}, got {form!r}")
    params = {"format": form, "threshold": "" if threshold is None else plain(threshold)}
    return _prediction(photo, task, options, params, lambda reply, _: read_annotations(reply))


def status() -> Call[ServerStatus]:
    """Readiness; a server that is not ready is an answer here, so it is not asked again."""
    return Call(method="GET", path="readyz", read=read_status, patient=False, accepted=frozenset({200, 503}))


def adapters() -> Call[AdapterList]:
    """All sets."""
    return Call(method="GET", path="adapters", read=lambda reply: read_as(AdapterList, reply))


def adapter(name: str) -> Call[AdapterSet]:
    """One set."""
    return _about(name, "GET")


def push(file: str | Path, name: str, *, activate: bool) -> Call[Pushed]:
    """Upload a file. Repeatable: the same bytes are the same revision."""
    return Call(
        method="POST",
        path="adapters",
        read=read_pushed,
        form=({"name": name} if name else {}) | {"activate": "true" if activate else "false"},
        file=Path(file),
        accepted=frozenset({200, 201}),
    )


def activate(name: str, revision: int) -> Call[AdapterSet]:
    """Make a revision the current one."""
    return _about(name, "PUT", "/current", json={"revision": revision})


def pin(name: str) -> Call[AdapterSet]:
    """Keep a set in memory."""
    return _about(name, "PUT", "/pin")


def unpin(name: str) -> Call[AdapterSet]:
    """Let a set be evicted again."""
    return _about(name, "DELETE", "/pin")


def load(name: str) -> Call[AdapterSet]:
    """Bring a set into memory."""
    return _about(name, "POST", "/load")


def unload(name: str) -> Call[AdapterSet]:
    """Take a set out of memory."""
    return _about(name, "POST", "/unload")


def delete(name: str, revision: int | None) -> Call[None]:
    """Delete a set or a revision. Not repeatable: in between, somebody may have uploaded another set of this name."""
    return Call(
        method="DELETE",
        path=_path(name),
        read=lambda _: None,
        params={} if revision is None else {"revision": str(revision)},
        repeatable=False,
        accepted=frozenset({204}),
    )


def _prediction(
    photo: Photo,
    tasks: str | Iterable[str],
    options: Options,
    params: Mapping[str, str],
    read: Callable[[Reply, tuple[str, ...]], T],
) -> Call[T]:
    content = photo_bytes(photo)
    asked = said(options)
    is_of_the_photo = not (params.get("logits") or params.get("masks") or asked.get("size"))
    pixels = pixels_of(content) if is_of_the_photo else None
    expected = None if pixels is None else ANSWER_BYTES + pixels * ANSWER_PIXEL_BYTES
    names = tuple(task.value for task in parse_tasks(tasks))
    return Call(
        method="POST",
        path="predict",
        read=lambda reply: read(reply, names),
        most=lambda limits: limits.maps_bytes if expected is None else min(limits.maps_bytes, expected),
        params={name: value for name, value in {**params, "tasks": ",".join(names), **asked}.items() if value},
        headers={"Content-Type": "image/*"},
        content=content,
    )


def _about(name: str, method: str, what: str = "", json: object = None) -> Call[AdapterSet]:
    return Call(method=method, path=_path(name) + what, read=_read_set, json=json)


def _path(name: str) -> str:
    if not name or name in {".", ".."}:
        raise RemoteError(f"an adapter set's name is needed, got {name!r}")
    try:
        return f"adapters/{quote(name, safe='')}"
    except UnicodeEncodeError:
        raise RemoteError(f"an adapter set's name is text, got {name!r}") from None


def _read_set(reply: Reply) -> AdapterSet:
    return read_as(AdapterSet, reply)
