"""The server as a process of its own: survives kill -9, drains on SIGTERM, exits 0, refuses unsafe starts."""

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from testing.serving import ServerProcess, Weights, encoded, picture, wait_until

PHOTO = encoded(picture(400, 300), "JPEG")
LARGE_PHOTO = encoded(picture(2000, 1500), "JPEG")  # its answer takes most of the time between two questions
JPEG = {"Content-Type": "image/jpeg"}
UPLOADERS = 3
ENOUGH = 12


class Promises:
    """Changes the sets without pause and remembers what the server acknowledged."""

    def __init__(self, url: str, contents: dict[str, bytes]) -> None:
        self.url = url
        self.contents = contents
        self.kept: dict[str, list[str]] = {}  # name -> contents of its acknowledged revisions
        self.deleted: set[str] = set()
        self.undecided: set[str] = set()  # names with a change that was sent and not answered
        self._lock = threading.Lock()

    def upload(self, name: str, content: str) -> bool:
        files = {"file": self.contents[content]}
        done = httpx.post(f"{self.url}/adapters", files=files, data={"name": name}, timeout=30).status_code == 201
        with self._lock:
            if done:
                self.kept.setdefault(name, []).append(content)
        return done

    def delete(self, name: str) -> None:
        with self._lock:
            del self.kept[name]
        if httpx.delete(f"{self.url}/adapters/{name}", timeout=30).status_code == 204:
            with self._lock:
                self.deleted.add(name)

    def keep_changing(self, worker: int) -> None:
        chance = random.Random(worker)
        for step in range(1000):
            name = f"set-{worker}-{step}"
            try:
                first, second = chance.sample(sorted(self.contents), 2)
                self.upload(name, first)
                if step % 3 == 0:
                    self.upload(name, second)
                elif step % 3 == 1:
                    self.delete(name)
            except httpx.TransportError:
                self.undecided.add(name)
                return


def test_kill_while_changing_then_restart_and_drain(weights: Weights, tmp_path: Path) -> None:
    """One story, because a start takes seconds: changes, kill -9, restart, every promise looked up, SIGTERM."""
    contents = {name: weights.upload(name) for name in ("cats", "dogs", "birds")}
    server = ServerProcess(weights, tmp_path / "store")
    promises = Promises(server.url, contents)
    try:
        server.wait_ready()
        threads = [threading.Thread(target=promises.keep_changing, args=(i,)) for i in range(UPLOADERS)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(promises.kept) + len(promises.deleted) >= ENOUGH, 60)
        server.kill()
        for thread in threads:
            thread.join()
        server = ServerProcess(weights, tmp_path / "store", log_level="info")
        server.wait_ready()
        _check_promises(server.url, promises, tmp_path / "store")
        _check_drain(server)
    finally:
        server.kill()


def _check_promises(url: str, promises: Promises, store: Path) -> None:
    sets = {s["name"]: s for s in httpx.get(f"{url}/adapters").json()["adapters"]}
    assert promises.deleted.isdisjoint(sets)
    for name, contents in promises.kept.items():
        revisions = sets[name]["revisions"]
        assert len(revisions) == len(contents) or name in promises.undecided
        for number, content in enumerate(contents, start=1):
            fetched = httpx.get(f"{url}/adapters/{name}/file?revision={number}").content
            assert fetched == promises.contents[content]
    assert list((store / "incoming").iterdir()) == []
    on_disk = sorted(p.stem for p in store.rglob("*.safetensors"))
    named = sorted(f"{r['revision']}-{r['digest']}" for s in sets.values() if not s["bundled"] for r in s["revisions"])
    assert on_disk == named
    assert not list(store.rglob("state.json.*"))
    answer = httpx.post(f"{url}/predict?adapter={sorted(promises.kept)[0]}", content=PHOTO, headers=JPEG, timeout=60)
    assert answer.status_code == 200


def _check_drain(server: ServerProcess) -> None:
    """Asked without pause: what is under way at SIGTERM is answered, what comes later is refused."""
    told = threading.Event()  # the server was asked to end
    answers: list[tuple[bool, int]] = []  # whether it was told before the answer came, and the status

    def keep_asking() -> None:
        with httpx.Client(base_url=server.url, headers=JPEG, timeout=60) as client:
            while True:
                try:
                    status = client.post("/predict", content=LARGE_PHOTO).status_code
                except httpx.TransportError:
                    return  # it takes no more connections
                answers.append((told.is_set(), status))
                if status != 200:
                    return

    threads = [threading.Thread(target=keep_asking) for _ in range(6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) >= len(threads), 60)
    told.set()
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    statuses = {status for _, status in answers}
    assert server.process.wait(timeout=60) == 0
    assert (True, 200) in answers
    assert statuses <= {200, 503}
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/livez")
    lines = [line for line in server.logged() if line["message"] == "request" and line["path"] == "/predict"]
    assert next(line for line in lines if line["status"] == 200).keys() >= {
        "request_id",
        "adapter",
        "revision",
        "stages_ms",
        "total_ms",
        "status",
    }


def test_unsafe_flags_are_refused_before_anything_starts() -> None:
    command = [sys.executable, "-c", "from mtlora.cli.main import main; main()", "serve", "--host", "0.0.0.0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "refusing to listen on '0.0.0.0'" in ended.stderr
