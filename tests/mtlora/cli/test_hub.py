"""Files of the Hub, from a hub of our own."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from mtlora.cli.hub import fetch
from mtlora.vocabulary.errors import RemoteError
from testing.fake_hub import COMMIT, fake_hub

_FETCH = "import sys; from mtlora.cli.hub import fetch; f = fetch(sys.argv[1]); print(f.source, f.digest)"


def _fetched(source: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _FETCH, source]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_a_file_comes_with_commit_and_digest_and_offline_from_the_cache(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with fake_hub() as hub:
        hub.files["org/name", "main"] = {"a.safetensors": b"content"}
        hub.private.add("org/name")
        environment = hub.environment(tmp_path)
        assert "RemoteError" in _fetched("hf://org/name/a.safetensors", environment).stderr
        online = _fetched("hf://org/name/a.safetensors", environment | {"HF_TOKEN": hub.token})
    expected = f"hf://org/name@{COMMIT}/a.safetensors {hashlib.sha256(b'content').hexdigest()}"
    assert online.stdout.strip() == expected, online.stderr
    offline = _fetched("hf://org/name/a.safetensors", environment | {"HF_HUB_OFFLINE": "1"})
    assert offline.stdout.strip() == expected, offline.stderr


def test_a_pickle_is_not_fetched() -> None:
    with pytest.raises(RemoteError, match="not pickles"):
        fetch("hf://org/name/a.pth")


@pytest.mark.parametrize("source", ["hf://org/name/../a.safetensors", "hf://org/a.safetensors"])
def test_what_names_no_file_is_refused(source: str) -> None:
    with pytest.raises(RemoteError, match="names no file"):
        fetch(source)
