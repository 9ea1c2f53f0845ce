"""The store under kill -9: a process changes it without pause and is killed at a random instant, many times."""

import hashlib
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from app.core.names import AdapterRef
from app.store.adapter_store import AdapterStore
from app.store.set_state import SetState

KILLS = 10
FEWEST_LINES = 6  # of a process before it is killed: three sets added
LONGEST_LIFE_S = 0.3

# Prints a line before and after each change: what was printed after it is acknowledged.
CHANGER = """
import itertools, sys
from pathlib import Path
from app.core.names import AdapterRef
from app.store.adapter_store import AdapterStore

store, generation = AdapterStore.open(Path(sys.argv[1])), sys.argv[2]

def say(*words):
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()

def add(name, text):
    say("try", name)
    staged = store.stage(10_000)
    staged.write(text.encode() * 100)
    staged.finish()
    revision = store.add(name, staged, activate=True)[1].revision
    staged.close()
    say("added", name, str(revision), text)

for step in itertools.count():
    name = f"s{generation}-{step}" if step % 2 else f"space/s{generation}-{step}"
    add(name, f"{name}-one")
    add(name, f"{name}-two")
    if step % 3 == 1:
        say("try", name)
        store.update(name, lambda state: state.replacing(current=1))
        say("current", name, "1")
    if step % 3 == 2:
        say("try", name)
        gone = [AdapterRef(name, r.revision, r.digest) for r in store.read(name).revisions]
        store.update(name, lambda state: state.without(None))
        say("deleted", name)
        for ref in gone:
            store.discard(ref)
"""


def expected(lines: list[str]) -> tuple[dict[str, dict[int, str]], dict[str, int], set[str], set[str]]:
    """Acknowledged revisions by name, current revisions, deleted names, and names whose last change went unanswered."""
    added: dict[str, dict[int, str]] = defaultdict(dict)
    current: dict[str, int] = {}
    deleted: set[str] = set()
    unanswered: set[str] = set()
    for line in lines:
        word, name, *rest = line.split()
        (unanswered.add if word == "try" else unanswered.discard)(name)
        if word == "added":
            added[name][int(rest[0])] = rest[1]
            current[name] = int(rest[0])
        elif word == "current":
            current[name] = int(rest[0])
        elif word == "deleted":
            deleted.add(name)
    return added, current, deleted, unanswered


def check(root: Path, lines: list[str]) -> None:
    store = AdapterStore.open(root)
    added, current, deleted, unanswered = expected(lines)
    for name, revisions in added.items():
        state: SetState = store.read(name)
        if name in deleted:
            assert state.revisions == ()
            continue
        if name in unanswered:
            continue
        assert state.current == current[name]
        for number, text in revisions.items():
            found = state.find(number)
            assert found is not None
            assert found.digest == hashlib.sha256(text.encode() * 100).hexdigest()
    states = [store.read(name) for name in store.names()]
    named = {store.path(AdapterRef(s.name, r.revision, r.digest)): r.digest for s in states for r in s.revisions}
    assert set(root.rglob("*.safetensors")) == set(named)
    for path, digest in named.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert not list((root / "incoming").iterdir())
    assert not list(root.rglob("state.json.*"))


@pytest.mark.slow
def test_kill_at_any_instant(tmp_path: Path) -> None:
    chance, lines = random.Random(3), list[str]()
    for generation in range(KILLS):
        command = [sys.executable, "-c", CHANGER, str(tmp_path / "store"), str(generation)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines += [process.stdout.readline() for _ in range(chance.randint(FEWEST_LINES, 2 * FEWEST_LINES))]
            time.sleep(chance.uniform(0, LONGEST_LIFE_S))
            process.kill()
            rest = process.stdout.read().split("\n")
        lines += [line for line in rest[:-1] if line]  # the last line may be cut
        check(tmp_path / "store", lines)
    assert sum(line.startswith("added") for line in lines) > 2 * KILLS
