"""The backup that docs/operations.md tells operators to make, of a store in use, is one that a server starts on."""

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from app.access.keys import Scope
from testing.key_files import add, key
from testing.paths import DOCS
from testing.serving import Weights, live_app, settings_for
from tests.deploy.tools import needs

PAGE = DOCS / "operations.md"


def packing_plan(store: Path, backup: Path) -> str:
    """The page's commands, for these folders."""
    found = re.search(r"^  ```sh\n(  STORE=.*?)^  ```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, "the section on backup has no commands any more"
    text = re.sub(r"STORE=\S+ BACKUP=\S+", f"STORE={store} BACKUP={backup}", found[1])
    assert str(store) in text
    return f"set -eu\n{text}"


@needs("rsync")
@pytest.mark.parametrize("namespace", ["", "studio"])
def test_a_copy_of_a_running_store_can_be_served(weights: Weights, tmp_path: Path, namespace: str) -> None:
    store, backup = tmp_path / "store", tmp_path / "away" / "copy"
    keys = tmp_path / "keys.json"
    add(keys, key("keeper", Scope.ADAPTERS_READ, Scope.ADAPTERS_WRITE, namespace=namespace))
    with live_app(settings_for(weights, store, keys_file=keys)) as live:
        live.client.headers["X-API-Key"] = "keeper"
        for content in ("cats", "dogs"):
            answer = live.client.post("/adapters", data={"name": "pets"}, files={"file": weights.upload(content)})
            assert answer.status_code == 201, answer.text
        live.client.put("/adapters/pets/current", json={"revision": 1}).raise_for_status()
        subprocess.run(["bash", "-c", packing_plan(store, backup)], check=True, timeout=60)
        before = live.client.get("/adapters/pets").json()
    for file in backup.rglob("*.safetensors"):
        assert file.stem.split("-")[-1] == hashlib.sha256(file.read_bytes()).hexdigest()
    with live_app(settings_for(weights, backup, keys_file=keys)) as live:
        live.client.headers["X-API-Key"] = "keeper"
        after = live.client.get("/adapters/pets").json()
        assert (after["current"], after["digest"]) == (before["current"], before["digest"])
        assert [r["digest"] for r in after["revisions"]] == [r["digest"] for r in before["revisions"]]
        for revision, content in ((1, "cats"), (2, "dogs")):
            assert live.client.get(f"/adapters/pets/file?revision={revision}").content == weights.upload(content)
