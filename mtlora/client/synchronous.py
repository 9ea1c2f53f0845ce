"""`Client`: the server's API as methods that wait for the answer."""

import random
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from mtlora.client import calls
from mtlora.client.answers import AdapterList, AdapterSet, Pushed, ServerStatus
from mtlora.client.attempts import Attempts
from mtlora.client.calls import Call
from mtlora.client.connection import DEFAULT_URL, Address, Connections
from mtlora.client.limits import Limits
from mtlora.client.maps import Pictures, Prediction
from mtlora.client.photos import Photo
from mtlora.client.retry import Retry
from mtlora.client.wishes import Options

T = TypeVar("T")


class Client:
    """A server, for threads: one client may be used by several.

    url:         http://HOST:PORT, with a path if the server lies under one
    key:         API key; None: the environment's MTLORA_KEY, if set
    timeout_s:   longest time without a byte, in either direction; connecting has 10 s at most. What moves at less than
                 64 KiB/s has no more time than this for all of an attempt
    retry:       what is done when the server is busy (429, 503) or a connection breaks
    connections: most at a time; further requests wait for a free one
    limits:      most bytes of an answer

    Whatever the server sends, every method raises `RefusedError` with the server's words, `UnreachableError`,
    `LostAnswerError` or `BadAnswerError`, and nothing else.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retry: Retry | None = None,
        connections: int = 16,
        limits: Limits | None = None,
    ) -> None:
        self._address = Address.make(url, key, timeout_s, connections)
        self._connections = Connections(self._address, limits or Limits())
        self._retry = retry or Retry()
        self._chance = random.Random()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def predict(
        self, photo: Photo, *, tasks: str | Iterable[str] = (), logits: bool = False, **options: Unpack[Options]
    ) -> Prediction:
        """Maps of a photo as arrays, of its size unless `size` says another.

        tasks:   names, or a comma list; none: all of the set
        logits:  also the float32 logits at the model's resolution
        options: adapter, deadline_ms, compute, edges, size; `Options` says what they mean
        """
        return self._ask(calls.predict(photo, tasks, options, logits=logits))

    def pictures(
        self,
        photo: Photo,
        *,
        tasks: str | Iterable[str] = (),
        masks: str = "",
        explain: bool = False,
        **options: Unpack[Options],
    ) -> Pictures:
        """Maps of a photo as PNG files, and what the server says of them; tasks and options as in `predict`.

        masks:   "rle" or "polygons": the record has run lengths or outlines of every class, too
        explain: also a picture of where something was computed
        """
        return self._ask(calls.pictures(photo, tasks, options, masks=masks, explain=explain))

    def overlay(self, photo: Photo, task: str, *, style: str = "", **options: Unpack[Options]) -> bytes:
        """A PNG for people: one task's map over the photo; style: "blend" (default), "contour" or "plain"."""
        return self._ask(calls.overlay(photo, task, options, style=style))

    def annotations(
        self, photo: Photo, task: str, form: str = "coco", *, threshold: float | None = None, **options: Unpack[Options]
    ) -> Any:
        """One task's masks for other tools, as the server's JSON.

        form:      "coco" (a dataset of one photo), "hf" (a list of masks), "labelstudio", "cvat"
        threshold: coco and hf: leave out masks whose score is below, 0..1
        """
        return self._ask(calls.annotations(photo, task, form, options, threshold=threshold))

    def status(self) -> ServerStatus:
        """Whether the server takes requests."""
        return self._ask(calls.status())

    def adapters(self) -> AdapterList:
        """Every adapter set, by name."""
        return self._ask(calls.adapters())

    def adapter(self, name: str) -> AdapterSet:
        """One adapter set."""
        return self._ask(calls.adapter(name))

    def push(self, file: str | Path, name: str = "", *, activate: bool = True) -> Pushed:
        """Upload an adapter file as a revision of `name` (none: the file names itself). The same bytes again are the
        same revision. A refusal lists everything that is wrong with the file, and has changed nothing."""
        return self._ask(calls.push(file, name, activate=activate))

    def activate(self, name: str, revision: int) -> AdapterSet:
        """Make a revision the current one: forward or back. Requests under way finish on the old one."""
        return self._ask(calls.activate(name, revision))

    def pin(self, name: str) -> AdapterSet:
        """Keep a set in memory whatever else is asked for."""
        return self._ask(calls.pin(name))

    def unpin(self, name: str) -> AdapterSet:
        """Let a set be evicted again."""
        return self._ask(calls.unpin(name))

    def load(self, name: str) -> AdapterSet:
        """Bring a set into memory before the first request needs it."""
        return self._ask(calls.load(name))

    def unload(self, name: str) -> AdapterSet:
        """Take a set out of memory; requests that use it finish first."""
        return self._ask(calls.unload(name))

    def delete(self, name: str, revision: int | None = None) -> None:
        """Delete a set, or one revision that is not current. Never sent twice if an answer is lost."""
        self._ask(calls.delete(name, revision))

    def _ask(self, call: Call[T]) -> T:
        attempts = Attempts(call, str(self._address.url), self._retry, self._chance)
        while True:
            outcome = self._connections.ask(call)
            reply = attempts.answer(outcome)
            if reply is not None:
                return attempts.read(reply)
            time.sleep(attempts.pause_s(outcome))
