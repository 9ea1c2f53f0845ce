"""Objects in memory with a history and a clock of their own: what a bucket promises, and nothing more."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.store.objects import Content, Listed, Version

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class MemoryObjects:
    """One bucket. `seconds` is its clock; `history` has every content that each key ever had, oldest first."""

    seconds: float = 0.0
    held: dict[str, Content] = field(default_factory=dict)
    history: dict[str, list[bytes]] = field(default_factory=dict)
    _count: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.seconds)

    def get(self, key: str, unless: Version | None = None) -> Content | None:
        found = self._found(key)
        return None if unless == found.version else found

    def get_beginning(self, key: str, count: int) -> tuple[bytes, int]:
        data = self._found(key).data
        return data[:count], len(data)

    def download(self, key: str) -> Iterator[bytes]:
        data = self._found(key).data
        yield data[: len(data) // 2]
        yield data[len(data) // 2 :]

    def put(self, key: str, data: bytes, over: Version | None) -> Version | None:
        with self._lock:
            there = self.held.get(key)
            if (there.version if there else None) != over:
                return None
            return self._write(key, data)

    def upload(self, key: str, path: Path) -> None:
        with self._lock:
            self._write(key, path.read_bytes())

    def list(self, under: str) -> Iterator[Listed]:
        with self._lock:
            found = sorted(self.held.items())
        for key, content in found:
            if key == under or key.startswith(f"{under}/"):
                yield Listed(key, len(content.data), content.version, content.modified)

    def delete(self, key: str) -> None:
        with self._lock:
            self.held.pop(key, None)

    def _found(self, key: str) -> Content:
        with self._lock:
            if key not in self.held:
                raise FileNotFoundError(2, "no such object", key)
            return self.held[key]

    def _write(self, key: str, data: bytes) -> Version:
        self._count += 1
        version = Version(f'"{self._count}"')
        self.held[key] = Content(data, version, self.now())
        self.history.setdefault(key, []).append(data)
        return version


@dataclass
class Wrapped:
    """Objects whose every call goes through `call`, which may fail it, lose its answer, or make it later."""

    objects: MemoryObjects
    call: Callable[[str, Callable[[], object]], object]

    def get(self, key: str, unless: Version | None = None) -> Content | None:
        found = self.call("read", lambda: self.objects.get(key, unless))
        if found is not None and not isinstance(found, Content):
            raise TypeError(f"a content, got {found!r}")
        return found

    def get_beginning(self, key: str, count: int) -> tuple[bytes, int]:
        self.call("read", lambda: None)
        return self.objects.get_beginning(key, count)

    def download(self, key: str) -> Iterator[bytes]:
        self.call("read", lambda: None)
        yield from self.objects.download(key)

    def put(self, key: str, data: bytes, over: Version | None) -> Version | None:
        version = self.call("write", lambda: self.objects.put(key, data, over))
        if version is not None and not isinstance(version, Version):
            raise TypeError(f"a version, got {version!r}")
        return version

    def upload(self, key: str, path: Path) -> None:
        data = path.read_bytes()  # what is on its way goes on without the file
        self.call("write", lambda: self.objects._write(key, data))

    def list(self, under: str) -> Iterator[Listed]:
        found: list[Listed] = []
        self.call("read", lambda: found.extend(self.objects.list(under)))
        yield from found

    def delete(self, key: str) -> None:
        self.call("write", lambda: self.objects.delete(key))
