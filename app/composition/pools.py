"""The thread pools of a server, one for each purpose, so that no kind of work waits behind another."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from app.engine.torch_threads import use_threads
from app.startup.settings import Settings
from app.store.store_threads import AdapterThreads, StoreThreads

UPLOAD_THREADS = 2
FILE_THREADS = 2
READ_THREADS, WAITING_READS = 4, 1000  # of the store; reads are short, and few are needed
CHANGE_THREADS, WAITING_CHANGES = 8, 64  # of the store; they take its lock, so one at a time gets on
UPLOADS_NICE, LOADS_NICE = 19, 10  # predictions go first; a load that somebody waits for still gets on


@dataclass(frozen=True, slots=True)
class Pools:
    """Threads by purpose, so that no kind of work waits behind another."""

    files: ThreadPoolExecutor  # what is known of sets, and the start
    uploads: ThreadPoolExecutor  # writing and checking adapter files
    loader: ThreadPoolExecutor  # adapter files to models
    codec: ThreadPoolExecutor  # photos in, answers out

    @classmethod
    def make(cls, settings: Settings) -> "Pools":
        """The pools that the settings ask for."""
        return cls(
            files=ThreadPoolExecutor(FILE_THREADS, "mtlora-files"),
            uploads=ThreadPoolExecutor(UPLOAD_THREADS, "mtlora-uploads", _yielding(UPLOADS_NICE)),
            loader=ThreadPoolExecutor(settings.loader_threads, "mtlora-loader", _yielding(LOADS_NICE)),
            codec=ThreadPoolExecutor(settings.codec_threads, "mtlora-codec", _single_threaded),
        )

    def warm(self, settings: Settings) -> None:
        """Start every thread that uses torch now: limiting one later would also limit the engine's operators."""
        sizes = (
            (self.uploads, UPLOAD_THREADS),
            (self.loader, settings.loader_threads),
            (self.codec, settings.codec_threads),
        )
        for pool, threads in sizes:
            barrier = threading.Barrier(threads + 1)
            for _ in range(threads):
                pool.submit(barrier.wait)
            barrier.wait()

    def close(self) -> None:
        """End the threads; what runs is finished, what waits is not begun."""
        for pool in (self.codec, self.loader, self.uploads, self.files):
            pool.shutdown(wait=True, cancel_futures=True)


def adapter_threads(settings: Settings, pools: Pools) -> AdapterThreads:
    """Threads for work on adapter files, those of the store with a bound of time."""
    s = settings.store_timeout_s
    return AdapterThreads(
        memory=pools.files,
        uploads=pools.uploads,
        reads=StoreThreads("reads", threads=READ_THREADS, waiting=WAITING_READS, timeout_s=s),
        changes=StoreThreads("changes", threads=CHANGE_THREADS, waiting=WAITING_CHANGES, timeout_s=s),
    )


def _single_threaded() -> None:
    """The engine alone may use several cores for one operator; others would fight it for them."""
    use_threads(1)


def _yielding(nice: int) -> Callable[[], None]:
    """Begin a thread that gives way to the engine's, where threads have priorities of their own (Linux)."""

    def begin() -> None:
        _single_threaded()
        if sys.platform == "linux":
            thread = threading.get_native_id()
            with contextlib.suppress(OSError):  # a sandbox may forbid it
                os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + nice))

    return begin
