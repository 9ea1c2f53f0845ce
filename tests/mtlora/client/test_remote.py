"""`mtlora remote`, as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mtlora.cli.connection import adapter_names
from mtlora.cli.main import cli
from mtlora.vocabulary.errors import MTLoRAError, RefusedError, RemoteError, UnreachableError
from testing.serving import Weights, free_port
from testing.stub_server import Say, Stub, problem

LIGHT = """
import sys
import mtlora.client
from mtlora.cli.main import main
try:
    main()
finally:
    heavy = {"torch", "timm", "torchvision"} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.fixture(autouse=True)
def address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLORA_URL", url)
    monkeypatch.delenv("MTLORA_KEY", raising=False)


def remote(*arguments: object) -> Result:
    """The command's result; errors raised on purpose come out as they are."""
    result = CliRunner().invoke(cli, ["remote", *map(str, arguments)])
    if isinstance(result.exception, MTLoRAError):
        raise result.exception
    return result


@pytest.mark.parametrize("command", [["list"], ["status"], ["predict", "PHOTOS", "--out", "OUT", "--tasks", "semseg"]])
def test_without_torch(command: list[str], photos: Path, tmp_path: Path) -> None:
    (photos / "torn.jpg").unlink()
    given = [{"PHOTOS": str(photos), "OUT": str(tmp_path / "maps")}.get(part, part) for part in command]
    process = [sys.executable, "-c", LIGHT, "remote", *given]
    finished = subprocess.run(process, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout
    assert finished.stderr == ""


def test_predict_says_what_became_of_the_photos(photos: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    result = remote("predict", photos, "--out", maps, "--tasks", "semseg")
    assert result.exit_code == 1
    assert result.stdout == f"{maps}: 3 predicted, 0 already there, 1 failed; answered by default@1 (3)\n"
    assert f"{photos / 'torn.jpg'}: " in result.stderr
    (photos / "torn.jpg").unlink()
    result = remote("predict", photos, "--out", maps, "--tasks", "semseg")
    assert (result.exit_code, result.stdout) == (0, f"{maps}: 0 predicted, 3 already there, 0 failed\n")


def test_a_set_from_push_to_delete(weights: Weights) -> None:
    cats, dogs = weights.uploads / "cats.safetensors", weights.uploads / "dogs.safetensors"
    first, link = remote("push", cats, "--name", "street").stdout.splitlines()
    assert first == "street@1: new, current; semseg"
    assert link.endswith("/?adapter=street")
    again = remote("push", cats, "--name", "street").stdout.splitlines()
    assert again == ["street@1: there already, current; semseg", link]
    pushed = remote("push", dogs, "--name", "street", "--no-activate").stdout.splitlines()
    assert pushed == ["street@2: new, current is 1; semseg", f"{link}@2"]
    assert remote("activate", "street", 2).stdout == "street@2 is current\n"
    assert remote("rollback", "street").stdout == "street@1 is current, was 2\n"
    with pytest.raises(RemoteError, match="street@1 is the oldest revision there is"):
        remote("rollback", "street")
    assert remote("pin", "street").stdout == "street is pinned, in device memory\n"
    line = next(line for line in remote("list").stdout.splitlines() if line.startswith("street "))
    assert line.split()[:7] == ["street", "1", "(2)", "semseg", "device", "0.1", "MB"]
    assert line.endswith("pinned")
    assert remote("unpin", "street").stdout == "street is no longer pinned\n"
    assert adapter_names("str") == ["street"]
    assert remote("delete", "street", "--revision", 2, "--yes").stdout == "street@2 is deleted\n"
    refused = CliRunner().invoke(cli, ["remote", "delete", "street"], input="n\n")
    assert refused.exit_code == 1
    assert remote("delete", "street", "--yes").stdout == "street is deleted\n"
    with pytest.raises(RefusedError, match="no adapter set 'street'"):
        remote("delete", "street", "--yes")


def test_a_refused_push_shows_the_reasons(weights: Weights) -> None:
    with pytest.raises(RemoteError, match=r"(?s)foreign\.safetensors: .*backbone"):
        remote("push", weights.uploads / "foreign.safetensors")
    with pytest.raises(RemoteError, match=r"cannot read .*none\.safetensors"):
        remote("push", weights.uploads / "none.safetensors")
    with pytest.raises(RemoteError, match="--name names one set, got 2 files"):
        remote("push", "a", "b", "--name", "x")


def test_errors_are_words_and_an_exit_status(weights: Weights) -> None:
    process = [sys.executable, "-c", LIGHT, "remote", "activate", "default", "7"]
    finished = subprocess.run(process, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 1
    assert finished.stderr.startswith("mtlora: ")
    assert "Traceback" not in finished.stderr


def test_json() -> None:
    assert "default" in [found["name"] for found in json.loads(remote("list", "--json").stdout)["adapters"]]
    assert json.loads(remote("status", "--json").stdout)["status"] == "ready"


def test_status_of_a_server_that_is_not_ready(stub: Stub) -> None:
    stub.script = [problem(503, "not-ready", errors=[{"detail": "engine warming up"}])]
    result = remote("status", "--url", stub.url)
    assert result.exit_code == 1
    assert result.stdout == f"{stub.url}: not-ready\n  waiting for: engine warming up\n"
    with pytest.raises(UnreachableError, match="cannot reach"):
        remote("status", "--url", f"http://127.0.0.1:{free_port()}")


def test_without_a_key_it_is_said_where_one_belongs(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "set.safetensors").write_bytes(b"bytes")
    for command in (("list",), ("push", tmp_path / "set.safetensors")):
        stub.script = [problem(401, "unauthorized")]
        with pytest.raises(RemoteError, match=r"(?s)unauthorized.*MTLORA_KEY, or --key-file"):
            remote(*command, "--url", stub.url)


def test_keys_come_from_a_file_or_the_environment(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.script = [problem(403, "forbidden")]
    monkeypatch.setenv("MTLORA_KEY", "from-the-environment")
    (tmp_path / "key").write_text("from-a-file\n")
    for options in ((), ("--key-file", tmp_path / "key")):
        with pytest.raises(RefusedError, match="because forbidden"):
            remote("list", "--url", stub.url, *options)
    keys = [asked.headers["Authorization"] for asked in stub.asked]
    assert keys == ["Bearer from-the-environment", "Bearer from-a-file"]
    (tmp_path / "key").write_text("two keys")
    with pytest.raises(RemoteError, match="one key and nothing else, got 2 words"):
        remote("list", "--key-file", tmp_path / "key")


def test_completion_is_silent_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLORA_URL", f"http://127.0.0.1:{free_port()}")
    assert adapter_names("") == []


NASTY = "\x1b[2J\x9b31m\u202e\n[red]mtlora: all is well"
SEEN = r"\x1b[2J\x9b31m\u202e\n[red]mtlora: all is well"


def nasty_set(**more: object) -> dict[str, object]:
    task = {"outputs": 1, "ranks": [1] * 4, "decoder": "hrnet", "axes": NASTY}
    return {
        "name": NASTY, "current": 2, "digest": "d", "bytes": 5, "tasks": {NASTY: task}, "ranks": None,
        "image_size": None, "tier": NASTY, "status": NASTY, "reason": NASTY, "pinned": False, "default": False,
        "bundled": False, "uses": 3, "last_used": None, "revisions": [], **more,
    }  # fmt: skip


def shows_nothing_but_text(text: str) -> None:
    assert all(line.isprintable() for line in text.splitlines())
    assert SEEN in text or SEEN.replace("\\x1b", "\\u001b").replace("\\x9b", "\\u009b") in text
    assert not any(line.startswith(("mtlora: all", "[red]")) for line in text.splitlines())


@pytest.mark.parametrize(
    ("command", "document"),
    [
        (["list"], {"default": NASTY, "adapters": [nasty_set()]}),
        (["list", "--json"], {"default": NASTY, "adapters": [nasty_set()]}),
        (["status"], {"status": NASTY, "missing": [{"adapter": NASTY, "reason": NASTY}], "waiting_for": [NASTY]}),
        (["status", "--json"], {"status": NASTY, "missing": [{"adapter": NASTY, "reason": NASTY}]}),
        (["activate", "x", "1"], nasty_set()),
        (["pin", "x"], nasty_set()),
        (["unpin", "x"], nasty_set()),
    ],
    ids=str,
)
def test_a_terminal_obeys_no_server(command: list[str], document: object, stub: Stub) -> None:
    stub.script = [Say(200, json.dumps(document).encode(), {"Content-Type": "application/json"})]
    result = remote(*command, "--url", stub.url)
    assert result.exit_code == 0
    shows_nothing_but_text(result.output)
    if "--json" in command:
        assert NASTY in json.loads(result.stdout).values()


def test_nor_a_server_s_refusals_nor_a_photo_s_name(stub: Stub, tmp_path: Path) -> None:
    stub.script = [
        problem(422, "bad-image", detail=NASTY, errors=[{"detail": NASTY, "where": NASTY}], request_id=NASTY)
    ]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / f"{NASTY}.jpg").write_bytes(b"x")
    result = remote("predict", tmp_path / "photos", "--out", tmp_path / "maps", "--url", stub.url)
    assert result.exit_code == 1
    shows_nothing_but_text(result.output)
    called = [sys.executable, "-c", "from mtlora.cli.main import main; main()", "remote", "pin", "x", "--url", stub.url]
    finished = subprocess.run(called, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 1
    shows_nothing_but_text(finished.stderr)
    assert finished.stderr.startswith("mtlora: ")


def test_only_names_are_completed(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells evaluate what they are given to complete."""
    names = ["cats", "cats$(touch x)", "cats;x", "cats\nx", '"cats"', NASTY]
    sets = [nasty_set(name=name) for name in names]
    stub.script = [Say(200, json.dumps({"default": "a", "adapters": sets}).encode())]
    monkeypatch.setenv("MTLORA_URL", stub.url)
    assert adapter_names("") == ["cats"]
    monkeypatch.setenv("MTLORA_URL", "http://[")
    assert adapter_names("") == []
