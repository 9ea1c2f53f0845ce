"""Try a real bucket: does it keep conditional writes when many write at once, and how soon do followers see a switch?

    python -m benchmarks.bench_bucket s3://BUCKET/PREFIX

Writes below PREFIX/trial-RANDOM and removes it at the end. Credentials come from where the server takes them.
"""

import argparse
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.core.errors import StoreUnavailableError
from app.store.adapter_store import AdapterStore
from app.store.objects import Objects
from app.store.open_store import StoreOptions, open_store
from app.store.place import BucketPlace, parse_place

POLL_S = 0.25  # as the server asks
LONGEST_S = 30.0


def main() -> int:
    """Exit status 1 if anything acknowledged was lost or a follower missed a switch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place")
    parser.add_argument("--followers", type=int, default=20)
    parser.add_argument("--switches", type=int, default=200)
    parser.add_argument("--writers", type=int, default=8)
    options = parser.parse_args()
    place = parse_place(options.place)
    if not isinstance(place, BucketPlace):
        parser.error(f"must be s3://, gs:// or az://BUCKET/PREFIX, got {options.place!r}")
    trial = BucketPlace(place.scheme, place.bucket, f"{place.prefix}/trial-{uuid.uuid4().hex[:8]}".strip("/"))
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        writers = [_opened(trial, cache) for _ in range(options.writers)]
        try:
            lost = _uploads_at_once(writers)
            late = _switches(writers[0], [_opened(trial, cache) for _ in range(options.followers)], options.switches)
        finally:
            _remove(trial)
    return 1 if lost or late else 0


def _opened(place: BucketPlace, cache: Path) -> AdapterStore:
    return open_store(place, StoreOptions(cache=cache))


def _upload(store: AdapterStore, name: str, content: bytes) -> int:
    staged = store.stage(1000)
    try:
        staged.write(content)
        staged.finish()
        return store.add(name, staged, activate=True)[1].revision
    finally:
        staged.close()


def _uploads_at_once(stores: list[AdapterStore]) -> int:
    """Each writer uploads its own bytes and the same bytes as all others, ten times; how many were lost."""
    acknowledged: list[tuple[int, str]] = []

    def work(number: int) -> int:
        refused = 0
        for step in range(10):
            for content in (f"{number}-{step}", f"all-{step}"):
                try:
                    acknowledged.append((_upload(stores[number], "at-once", content.encode()), content))
                except StoreUnavailableError:
                    refused += 1
        return refused

    with ThreadPoolExecutor(len(stores)) as pool:
        refused = sum(pool.map(work, range(len(stores))))
    state = stores[0].fetch("at-once")
    numbers = {revision for revision, _ in acknowledged}
    contents = {content for _, content in acknowledged}
    lost = len(numbers - {r.revision for r in state.revisions}) + len(contents) - len(numbers)
    sys.stdout.write(f"uploads at once: {len(acknowledged)} acknowledged, {refused} refused, {lost} lost\n")
    return lost


def _switches(writer: AdapterStore, followers: list[AdapterStore], switches: int) -> int:
    """Print how soon each follower saw each switch; how many were not seen."""
    for content in (b"one", b"two"):
        _upload(writer, "switched", content)
    stop = threading.Event()

    def follow(store: AdapterStore) -> None:
        while not stop.wait(POLL_S):
            store.adopt(store.changes().values())

    threads = [threading.Thread(target=follow, args=(store,), daemon=True) for store in followers]
    for thread in threads:
        thread.start()
    last: list[float] = []
    missed = 0
    for switch in range(switches):
        current = 1 + switch % 2
        writer.update("switched", lambda state, current=current: state.replacing(current=current))
        began = time.monotonic()
        while behind := [s for s in followers if s.read("switched").current != current]:
            if time.monotonic() - began > LONGEST_S:
                missed += len(behind)
                break
            time.sleep(0.005)
        else:
            last.append(time.monotonic() - began)
    stop.set()
    for thread in threads:
        thread.join()
    last.sort()
    times = f"median {last[len(last) // 2]:.3f} s, worst {last[-1]:.3f} s" if last else "none"
    sys.stdout.write(f"{len(last)} of {switches} switches seen by all {len(followers)} followers: {times}\n")
    return missed


def _remove(place: BucketPlace) -> None:
    from app.store.obstore_objects import open_objects

    objects: Objects = open_objects(place, 10.0)
    for folder in ("sets", "index.json", "sweep.json", "probe.json"):
        for found in list(objects.list(folder)):
            objects.delete(found.key)
        objects.delete(folder)


if __name__ == "__main__":
    sys.exit(main())
