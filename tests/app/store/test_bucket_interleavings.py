"""Every order of calls to a bucket that somebody can think of: nothing acknowledged is lost, nothing hangs in the air.

Writers, faults and order are drawn; see `testing.schedules`. A bucket keeps every content that each document ever had,
so the laws are about that history: each document builds upon the one before it, and what was acknowledged is in it.
"""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.errors import AdapterConflictError, StoreUnavailableError
from app.core.names import AdapterRef
from app.store import bucket_blob_store
from app.store.adapter_store import AdapterStore
from app.store.blob_store import BLOB_SUFFIX, DOCUMENT, Staged, key_of
from app.store.bucket_blob_store import BucketBlobStore
from app.store.bucket_sweep import BucketSweep, stem_of
from app.store.file_cache import FileCache
from app.store.objects import Objects
from app.store.set_state import Revision, SetState
from testing.examples import examples
from testing.memory_objects import MemoryObjects, Wrapped
from testing.schedules import Choices, Schedule, Writer
from testing.stored_sets import add

NAMES = ("cats", "dogs")
HOURS = 3600.0
Operation = tuple[str, str, int]  # what, name, which content or revision
OPERATION = st.tuples(
    st.sampled_from(("add", "add", "add quietly", "activate", "pin", "delete revision", "delete set")),
    st.sampled_from((NAMES[0], NAMES[0], NAMES[1])),
    st.integers(1, 3),
)
PROGRAM = st.lists(OPERATION, min_size=1, max_size=4)
CHOICES = st.lists(st.integers(0, 1000), min_size=40, max_size=250)


class World:
    """A bucket, what writers were told, and the laws."""

    def __init__(self, cache: FileCache) -> None:
        self.bucket = MemoryObjects()
        self.told: list[SetState] = []
        self.made: list[
            tuple[str, int, str]
        ] = []  # revisions that a writer was told to have made: name, number, digest
        self.tries: list[list[str]] = []  # marks that one operation tried to write
        self._cache = cache

    def store(self, objects: Objects, sleep: Callable[[float], None]) -> AdapterStore:
        clock = lambda: self.bucket.seconds  # noqa: E731
        blobs = BucketBlobStore(objects, self._cache, timeout_s=10.0, clock=clock, sleep=sleep)
        blobs._sweep = BucketSweep(objects, blobs._documents, now=self.bucket.now, clock=clock)
        return AdapterStore(blobs, timeout_s=10.0)

    def writer(self, program: list[Operation]) -> Callable[[Writer], None]:
        def work(writer: Writer) -> None:
            store = self.store(writer.objects(), writer.sleep)
            overhear(store, lambda mark: tries.append(mark))
            for operation in program:
                tries: list[str] = []
                self.tries.append(tries)
                try:
                    self._operate(store, *operation)
                except (OSError, StoreUnavailableError, AdapterConflictError, LookupError):
                    continue

        return work

    def sweeper(self, writer: Writer) -> None:
        store = self.store(writer.objects(), writer.sleep)
        for _ in range(3):
            try:
                store.sweep()
            except OSError:
                continue

    def _operate(self, store: AdapterStore, what: str, name: str, number: int) -> None:
        if what.startswith("add"):
            staged = store.stage(1000)
            try:
                staged.write(b"content %d" % number)
                staged.finish()
                state, revision, created = store.add(name, staged, activate=what == "add")
            finally:
                staged.close()
            self.told.append(state)
            if created:
                self.made.append((name, revision.revision, revision.digest))
            return
        gone: list[Revision] = []

        def change(state: SetState) -> SetState:
            if what == "pin":
                return state.replacing(pinned=not state.pinned)
            if what == "delete set":
                gone[:] = state.revisions
                return state.without(None)
            found = state.find(number)
            if found is None or (what == "delete revision" and state.current == number):
                raise LookupError(f"no revision {number} to {what}")
            gone[:] = [found] if what == "delete revision" else []
            return state.replacing(current=number) if what == "activate" else state.without(number)

        self.told.append(store.update(name, change))
        for revision in gone:
            store.discard(AdapterRef(name, revision.revision, revision.digest))

    def states(self, name: str) -> list[SetState]:
        """Every state that a name had, oldest first."""
        return [SetState.model_validate_json(text) for text in self.bucket.history.get(f"sets/{name}/{DOCUMENT}", [])]

    def check_files(self) -> None:
        """A document names only files that are there, whole."""
        for name in NAMES:
            content = self.bucket.held.get(f"sets/{name}/{DOCUMENT}")
            state = SetState.model_validate_json(content.data) if content else SetState(name=name)
            held = {stem_of(key) for key in self.bucket.held if key.startswith(f"sets/{name}/")}
            named = {key_of(r.revision, r.digest).removesuffix(BLOB_SUFFIX) for r in state.revisions}
            assert named <= held, f"{name} names {named - held}, which are not there"

    def check_history(self) -> None:
        for name in NAMES:
            states = self.states(name)
            for before, after in zip([SetState(name=name), *states], states, strict=False):
                assert after.changes == before.changes + 1
                assert after.marks == (*before.marks, after.marks[-1])[-16:]
                assert after.next_revision in {before.next_revision, before.next_revision + 1}
                lost = {r.revision for r in before.revisions} - {r.revision for r in after.revisions}
                come = {r.revision for r in after.revisions} - {r.revision for r in before.revisions}
                assert len(come) <= 1
                assert not (come and lost), "a set came back, or a revision went with another one's coming"
            marks = [state.marks[-1] for state in states]
            assert all(len(set(tries) & set(marks)) <= 1 for tries in self.tries), "a change was made twice"
        for state in self.told:
            assert state in self.states(state.name) or state == SetState(name=state.name), "acknowledged, and not there"
        assert len(set(self.made)) == len(self.made), "two writers made one revision"

    def check_followers(self, follower: AdapterStore) -> None:
        self.bucket.seconds += bucket_blob_store.FULL_LOOK_S
        follower.adopt(follower.changes().values())
        for name in NAMES:
            assert follower.read(name) == (self.states(name) or [SetState(name=name)])[-1]


def overhear(store: AdapterStore, hear: Callable[[str], None]) -> None:
    """Tell the mark of each swap that is tried."""
    swap = store._blobs.swap

    def heard(name: str, before: bytes, after: bytes, blob: tuple[str, Staged] | None = None, mark: str = "") -> bool:
        hear(mark)
        return swap(name, before, after, blob, mark)

    store._blobs.swap = heard  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FileCache:
    return FileCache.open(tmp_path_factory.mktemp("cache"), 2**20)


@pytest.mark.slow
@settings(max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs=st.lists(PROGRAM, min_size=2, max_size=3), choices=CHOICES)
def test_writers_whose_answers_are_lost(cache: FileCache, programs: list[list[Operation]], choices: list[int]) -> None:
    world = World(cache)
    quiet = world.store(Wrapped(world.bucket, lambda kind, request: request()), lambda _: None)
    quiet.changes()
    schedule = Schedule(world.bucket, Choices(choices))
    schedule.run([world.writer(program) for program in programs], world.check_files)
    world.check_history()
    world.check_followers(quiet)


@pytest.mark.slow
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=PROGRAM, programs=st.lists(PROGRAM, min_size=1, max_size=2), choices=CHOICES)
def test_sweeps_among_writers(
    cache: FileCache, before: list[Operation], programs: list[list[Operation]], choices: list[int]
) -> None:
    """What a writer left that was killed hours ago goes, while others bring in the same bytes again."""
    world, chosen = World(cache), Choices(choices)
    Schedule(world.bucket, chosen).run([world.writer(before), world.writer(before)], world.check_files)
    world.bucket.seconds += 7 * HOURS
    works = [world.sweeper, world.sweeper, *(world.writer(program) for program in programs)]
    Schedule(world.bucket, chosen, kills=False).run(works, world.check_files)
    world.check_history()
    for _ in range(2):  # the second one finds nothing in its way
        world.bucket.seconds += 7 * HOURS
        world.store(Wrapped(world.bucket, lambda kind, request: request()), lambda _: None).sweep()
    world.check_files()
    for name in NAMES:
        state = (world.states(name) or [SetState(name=name)])[-1]
        held = [key for key in world.bucket.held if key.startswith(f"sets/{name}/") and key.endswith(BLOB_SUFFIX)]
        assert len(held) == len(state.revisions), "files that nobody names are still there"


class LoserDeletes(BucketBlobStore):
    """The recipe of decision 8: files by number and digest alone, removed by whoever loses the swap."""

    def swap(
        self, name: str, before: bytes, after: bytes, blob: tuple[str, Staged] | None = None, mark: str = ""
    ) -> bool:
        if blob is not None:
            self._objects.upload(f"sets/{name}/{blob[0]}", blob[1].path)
        done = self._documents.swap(name, before, after, mark)
        if not done and blob is not None:
            self._objects.delete(f"sets/{name}/{blob[0]}")
        return done


class BelievesRefusals(BucketBlobStore):
    """Takes a refused write for one that was not made, as if answers were never lost and nothing came twice."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        real = self._documents._objects

        def swap(name: str, before: bytes, after: bytes, mark: str) -> bool:
            found = self._documents._read(name)
            if found.data != before:
                return False
            try:
                return real.put(f"sets/{name}/{DOCUMENT}", after, found.version if before else None) is not None
            except OSError:
                return False

        self._documents.swap = swap  # type: ignore[method-assign]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "law"), [(LoserDeletes, "which are not there"), (BelievesRefusals, "made twice")])
def test_the_laws_find_wrong_stores(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch, kind: type[BucketBlobStore], law: str
) -> None:
    """Two servers receive the same bytes under the same name, and one of them activates at the same time."""
    monkeypatch.setattr(f"{__name__}.BucketBlobStore", kind)
    numbers = random.Random(1)
    program: list[Operation] = [("add", "cats", 1), ("pin", "cats", 1), ("delete set", "cats", 1)]
    found: list[str] = []
    for _ in range(400):
        world = World(cache)
        choices = Choices([numbers.randrange(1000) for _ in range(120)])
        try:
            Schedule(world.bucket, choices).run([world.writer(program)] * 2, world.check_files)
            world.check_history()
        except AssertionError as error:
            found.append(str(error))
    assert any(re.search(law, error) for error in found), found


def test_the_first_full_look_knows_what_the_index_lacks(cache: FileCache) -> None:
    """A writer that dies between the document and the index."""
    world = World(cache)
    plain = Wrapped(world.bucket, lambda kind, request: request())
    follower = world.store(plain, lambda _: None)
    follower.adopt(follower.changes().values())
    writer = world.store(plain, lambda _: None)
    writer._blobs._index.note = lambda name, mark: None  # type: ignore[attr-defined]
    add(writer, "cats", b"one")
    assert follower.changes() == {}
    world.bucket.seconds += bucket_blob_store.FULL_LOOK_S
    assert list(follower.changes()) == ["cats"]


def test_a_small_cache_keeps_what_was_used_last(tmp_path: Path) -> None:
    now = [1000.0]
    cache = FileCache(FileCache.open(tmp_path, 0)._root, 25, clock=lambda: now[0] + 2**40)
    for number in range(4):
        staged = cache.stage(100)
        staged.write(b"%d" % number * 10)
        staged.finish()
        cache.keep(staged)
        staged.close()
    assert len(list((tmp_path / "files").iterdir())) == 2
