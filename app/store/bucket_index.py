"""The index of a bucket: one small object that changes with every change, so that following costs one request.

It says of each name which change was noted last. It is written after the document and may lack changes of a writer
that died between the two; who follows takes a full look at times.
"""

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from app.store.bucket_documents import NOTHING
from app.store.objects import BucketError, Content, Objects

log = logging.getLogger(__name__)

INDEX = "index.json"
TRIES = 20
LONGEST_PAUSE_S = 0.05


class BucketIndex:
    """Names to the marks of their last changes. Blocking, thread-safe."""

    def __init__(self, objects: Objects, sleep: Callable[[float], None] = time.sleep) -> None:
        self._objects = objects
        self._sleep = sleep
        self._seen = NOTHING  # up to which changes were told
        self._marks: Mapping[str, str] = {}

    def note(self, name: str, mark: str) -> None:
        """Say that a name has changed. A failure delays what other processes see, no more."""
        reason = f"others have changed it {TRIES} times"
        for attempt in range(TRIES):
            if attempt:
                self._sleep(random.uniform(0, LONGEST_PAUSE_S * min(attempt, 4)))
            try:
                found = self._read()
                marks = dict(_parse(found.data)) if found else {}
                if marks.get(name) == mark:
                    return
                text = json.dumps({"sets": marks | {name: mark}}, sort_keys=True).encode()
                if self._objects.put(INDEX, text, over=found.version if found else None) is not None:
                    return
            except BucketError as error:
                reason = error.strerror or type(error).__name__
                break
        log.error("other processes see this change late", extra={"entry": name, "reason": reason})

    def changed(self) -> tuple[list[str], Callable[[], None]]:
        """Names that changed since the last look that was taken in, and what takes this one in."""
        content = None
        with suppress(FileNotFoundError):
            content = self._objects.get(INDEX, unless=self._seen.version if self._seen.data else None)
        if content is None:
            return [], lambda: None
        marks = _parse(content.data)

        def take_in() -> None:
            self._seen, self._marks = content, marks

        return sorted(name for name, mark in marks.items() if self._marks.get(name) != mark), take_in

    def ask(self) -> None:
        """`OSError` unless the bucket answers."""
        with suppress(FileNotFoundError):
            self._objects.get(INDEX, unless=self._seen.version if self._seen.data else None)

    def _read(self) -> Content | None:
        try:
            return self._objects.get(INDEX)
        except FileNotFoundError:
            return None


def _parse(text: bytes) -> Mapping[str, str]:
    """What an index says; one that cannot be read says nothing, and the next change writes a new one."""
    try:
        marks = json.loads(text)["sets"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(marks, dict):
        return {}
    return {name: mark for name, mark in marks.items() if isinstance(mark, str)}
