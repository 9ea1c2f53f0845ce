"""`mtlora serve` refuses what is wrong at once: one plain line a fault, exit status 2, and torch is not imported."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from app.cli import ENVIRONMENT, serve
from app.startup.help import help_text
from app.startup.settings import GROUPS, PREFIX, Settings
from testing.paths import ROOT
from testing.ready_command import ReadyCommand, ready_command
from testing.serving import Weights, free_port

MAIN = "from mtlora.cli.main import main; main()"
IMPORTED = 77
Start = Callable[..., tuple[int, list[str]]]
Refused = Callable[..., list[str]]
ROOT_USER = os.geteuid() == 0


@pytest.fixture(scope="module")
def poison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torch that ends the process."""
    folder = tmp_path_factory.mktemp("poison")
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text(f"import os\nos._exit({IMPORTED})\n")
    return folder


@pytest.fixture(scope="module")
def command(poison: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadyCommand]:
    with ready_command([poison, ROOT], tmp_path_factory.mktemp("ran")) as ready:
        yield ready


@pytest.fixture
def start(command: ReadyCommand, poison: Path, weights: Weights, tmp_path: Path) -> Start:
    """Exit status and lines of `mtlora serve` with small weights and a store of its own, unless told otherwise.

    anew: as a process of its own, which begins with nothing set and has the open files of this one
    """

    def run(*, environment: dict[str, str] | None = None, anew: bool = False, **flags: object) -> tuple[int, list[str]]:
        usual = {"port": 0, "store": tmp_path / "store", "backbone": weights.backbone, "adapters": weights.bundled}
        given = {name: value for name, value in (usual | flags).items() if value is not None}
        words = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        if not anew:
            ran = command.run(["serve", *words], {**kept, **ENVIRONMENT, **(environment or {})})
            assert ran.stdout == ""
            return ran.status, ran.stderr.splitlines()
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "serve", *words],
            env={**kept, "PYTHONPATH": f"{poison}:{ROOT}", **(environment or {})},
            close_fds=False,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.stdout == ""
        return done.returncode, done.stderr.splitlines()

    return run


@pytest.fixture
def refused(start: Start) -> Refused:
    def run(**given: object) -> list[str]:
        status, lines = start(**given)
        assert status == 2, lines
        assert all(line.startswith("mtlora serve: ") for line in lines)
        return [line.removeprefix("mtlora serve: ") for line in lines]

    return run


@pytest.mark.parametrize("anew", [False, True])
def test_what_is_right_gets_as_far_as_torch(start: Start, anew: bool) -> None:
    status, lines = start(anew=anew)
    assert status == IMPORTED
    assert '"message": "starting"' in lines[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"not a header")
    return path


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("port", "99999", "must be a whole number from 0 to 65535, got '99999'"),
        ("backbone", "nowhere.safetensors", "cannot read backbone file {}: No such file or directory"),
        ("backbone", "folder", "is not a .safetensors file"),
        ("backbone", "folder.safetensors", "{} is a folder"),
        ("backbone", "file.safetensors", "{} is not a whole safetensors file"),
        ("backbone", "weights/bundled/default.safetensors", "is an adapter set, not a backbone"),
        ("adapters", "nowhere", "{}: no such file or directory"),
        ("adapters", "file.safetensors", "{}: not a directory"),
        ("keys_file", "nowhere", "there is no key file {}"),
        ("keys_file", "file.safetensors", "{} is not a key file"),
        ("audit_log", "folder", "{}: is a folder"),
        ("audit_log", "file.safetensors/audit", "file.safetensors: is no folder"),
        ("store", "file.safetensors", "{}: is no folder"),
        ("store", "file.safetensors/store", "file.safetensors is no folder"),
    ],
)
def test_a_wrong_path_is_one_line(
    refused: Refused, weights: Weights, file: Path, tmp_path: Path, setting: str, value: str, words: str
) -> None:
    for folder in ("folder", "folder.safetensors"):
        (tmp_path / folder).mkdir()
    (tmp_path / "weights").symlink_to(weights.root)
    path = value if value.isdigit() else tmp_path / value
    (line,) = refused(**{setting: path})
    assert line.startswith(f"--{setting.replace('_', '-')}: ")
    assert words.format(path) in line


def test_the_default_set_is_looked_for(refused: Refused, weights: Weights, tmp_path: Path) -> None:
    (line,) = refused(default_adapter="peopl")
    assert line == (
        "--default-adapter: there is no adapter set 'peopl' (did you mean people?); sets found: default, people"
    )
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    (bundled / "default.safetensors").write_bytes(weights.upload("wider"))
    (line,) = refused(adapters=bundled)
    assert "--default-adapter: default cannot be served: the adapter set was trained on backbone" in line
    (bundled / "default.safetensors").write_bytes(weights.upload("cats")[:1000])
    assert (
        "--default-adapter: default cannot be served: default.safetensors: header says" in refused(adapters=bundled)[0]
    )


@pytest.mark.skipif(ROOT_USER, reason="root may write everywhere")
def test_a_store_without_permission(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    (line,) = refused(store=tmp_path / "locked" / "store")
    assert "cannot be made in" in line
    assert line.endswith("permission denied")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody may write")
def test_a_store_on_a_file_system_that_takes_no_files(refused: Refused) -> None:
    (line,) = refused(store="/proc/nope")
    assert line.startswith("--store: /proc/nope: cannot be made in /proc: ")


def test_a_port_in_use(refused: Refused) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused(port=port) == [f"--port: {port} is in use on 127.0.0.1; take another, or 0 for a free one"]


def test_a_host_that_is_no_address_here(refused: Refused) -> None:
    (line,) = refused(host="192.0.2.1", insecure=None, environment={"MTLORA_INSECURE": "1"})
    assert line == "--host: 192.0.2.1 is not an address of this machine"
    (line,) = refused(host="x" * 64, environment={"MTLORA_INSECURE": "1"})
    assert line.startswith(f"--host: '{'x' * 64}' cannot be resolved: ")


def test_everything_at_once_and_where_it_was_set(refused: Refused, file: Path, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text('audit-log = "file.safetensors/audit"\nmax_images = 3\nport = 1\n')
    lines = refused(
        backbone=file,
        store=file,
        adapters="/none",
        keys_file="/none/keys",
        device="gpu",
        config=config,
        environment={"MTLORA_MAX_UPLOADS": "none", "MTLORA_HOST": "0.0.0.0"},
    )
    said = [
        "--keys-file",
        "MTLORA_MAX_UPLOADS",
        "--device",
        "--backbone",
        "--adapters",
        "--store",
        f"{config}: audit_log",
    ]
    assert [line.rpartition(": ")[0].startswith(where) for line, where in zip(lines, said, strict=True)] == [True] * 7


def test_what_is_wrong_together_does_not_hide_wrong_paths(refused: Refused) -> None:
    lines = refused(host="0.0.0.0", backbone="/none.safetensors")
    assert len(lines) == 2
    assert lines[0].startswith("--host: refusing to listen on '0.0.0.0'")
    assert lines[1].startswith("--backbone: ")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("config", "the configuration file {} cannot be read: nothing came through this pipe for 5 seconds"),
        ("keys_file", "--keys-file: the key file {} cannot be read: it is not a plain file"),
        ("backbone", "--backbone: cannot read backbone file {}: it is not a plain file"),
        ("adapters", "--adapters: {}: not a directory"),
        ("store", "--store: {}: is no folder"),
        ("audit_log", "--audit-log: {}: nobody reads this pipe"),
    ],
)
def test_a_pipe_is_not_waited_for(refused: Refused, tmp_path: Path, setting: str, words: str) -> None:
    path = tmp_path / "pipe.safetensors"
    os.mkfifo(path)
    assert refused(**{setting: path}) == [words.format(path)]


def test_a_pipe_in_the_store_is_not_waited_for(start: Start, tmp_path: Path) -> None:
    home = tmp_path / "store" / "sets" / "cats"
    home.mkdir(parents=True)
    os.mkfifo(home / "state.json")
    status, _ = start(default_adapter="cats")  # what it is cannot be told, so the store is to
    assert status == IMPORTED


def test_a_process_may_write_the_configuration(start: Start, refused: Refused, tmp_path: Path) -> None:
    def pipe_with(text: str) -> Path:
        reader, writer = os.pipe()
        os.set_inheritable(reader, True)
        os.write(writer, text.encode())
        os.close(writer)
        return Path(f"/dev/fd/{reader}")

    given: dict[str, object] = {"config": pipe_with("max_images = 3\n"), "anew": True}
    assert start(**given)[0] == IMPORTED
    given["config"] = pipe_with("max_images = 0\n")
    (line,) = refused(**given)
    assert line == f"{given['config']}: max_images: must be a whole number from 1 to 1000, got 0"


@pytest.mark.parametrize("setting", ["adapters", "store", "backbone", "keys_file", "audit_log", "config"])
def test_a_path_that_is_too_long(refused: Refused, setting: str) -> None:
    lines = refused(**{setting: f"/{'x' * 300}.safetensors"})
    assert len(lines) == 1
    assert "ile name too long" in lines[0]


def test_slips_of_several_flags_are_told_together(refused: Refused) -> None:
    assert refused(port="x", form="fast", grace_s="nan") == [
        "--port: must be a whole number from 0 to 65535, got 'x'",
        "--form: must be one of auto, merged, lowrank, plain, got 'fast'",
        "--grace-s: must be a number from 0 to 31536000, got 'nan'",
    ]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("serve", "--keys", "x"), "--keys-file"),
        (("serve", "--file", "x"), "--keys-file"),
        (("serve", "--key-file", "x"), "--keys-file"),
        (("serve", "--por", "1"), "--port"),  # no beginning of a flag stands for it
        (("keys", "list", "--keys", "x"), "--keys-file"),
        (("keys", "--keys-file", "x"), "stands behind a command: mtlora keys list --keys-file FILE"),
        (("keys", "--file=x", "list"), "stands behind a command: mtlora keys list --file FILE"),
        (("keys", "--key-file", "x", "list"), "stands behind a command: mtlora keys list --keys-file FILE"),
        (("remote", "list", "--keys-file", "x"), "--key-file"),
    ],
)
def test_the_flag_that_may_be_meant_is_named(command: ReadyCommand, words: tuple[str, ...], hint: str) -> None:
    ran = command.run(words, {**os.environ, **ENVIRONMENT, "COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert ran.status == 2
    assert hint in ran.stderr


def test_names_cannot_forge_a_line(refused: Refused) -> None:
    (line,) = refused(adapters="/none\nmtlora serve: all is well\x1b[2K")
    assert "/none\\nmtlora serve: all is well\\x1b[2K: no such file" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "'prot': there is no such setting; did you mean port?"),
        ("MTLORA_PORT = 1", "'MTLORA_PORT': there is no such setting; did you mean port?"),
        (
            "[limits]\nmax-images = 1",
            "[limits]: settings stand at the top level of the file, without tables; write max-images",
        ),
        (
            "[[server]]\nport = 0",
            "[server]: settings stand at the top level of the file, without tables; write port there",
        ),
        ("server.port = 0", "[server]: settings stand at the top level of the file, without tables; write port there"),
        ("nothing = 1", "'nothing': there is no such setting, see mtlora serve --help"),
        (
            "[store]\npath = 'x'",
            "'store': must be a text, a number, true or false, got a table; settings stand at the top level",
        ),
        ("max_images = 1\nmax-images = 2", "'max-images': is there twice"),
        ("port = true", "'port': cannot be true"),
        ("config = 'other.toml'", "'config': a configuration file cannot name another"),
        ("port =", "is not TOML: Invalid value"),
        ("port = 99999", "{}: port: must be a whole number from 0 to 65535, got 99999"),
        ("default_adapter = 'A B'", "{}: default_adapter: adapter names match"),
    ],
)
def test_a_wrong_configuration_file(refused: Refused, tmp_path: Path, text: str, words: str) -> None:
    config = tmp_path / "server.toml"
    config.write_text(text)
    (line,) = refused(port=None, config=config)
    assert words.format(config) in line
    assert str(config) in line


def test_a_configuration_file_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml"):
        (line,) = refused(environment={"MTLORA_CONFIG": str(path)})
        assert line.startswith(f"the configuration file {path} cannot be read: ")


def test_a_port_is_held_while_torch_is_imported(weights: Weights, tmp_path: Path) -> None:
    """Held, but not open: whoever connects is refused at once, and whoever wants it is told."""
    started, slow = tmp_path / "started", tmp_path / "slow" / "torch"
    slow.mkdir(parents=True)
    (slow / "__init__.py").write_text(f"open({str(started)!r}, 'w').close()\nimport time\ntime.sleep(600)\n")
    port = free_port()
    command = [sys.executable, "-c", MAIN, "serve", "--port", str(port), "--store", str(tmp_path / "store")]
    command += ["--backbone", str(weights.backbone), "--adapters", str(weights.bundled)]
    environment = {**os.environ, "PYTHONPATH": f"{slow.parent}:{ROOT}"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            while not started.exists():
                assert process.poll() is None
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=30)
            with socket.socket() as second:
                second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match="in use"):
                    second.bind(("127.0.0.1", port))
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.fixture
def shown() -> Iterator[str]:
    cli = Typer()
    cli.command(cls=serve.command_class)(serve)  # type: ignore[attr-defined]
    done = CliRunner().invoke(cli, ["--help"], env={"COLUMNS": "80", **ENVIRONMENT})
    assert done.exit_code == 0
    yield done.stdout


def test_help_fits_a_terminal_and_cuts_nothing(shown: str) -> None:
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    words = set(re.split(r"[\s,]+", shown))
    for name in Settings.model_fields:
        assert f"{PREFIX}{name.upper()}" in words
        assert name == "api_keys" or f"--{name.replace('_', '-')}" in words
    assert "<" not in shown
    assert str(Path.home()) not in shown


def test_help_is_grouped(shown: str) -> None:
    assert re.findall(r"^(\w[\w ]+):$", shown, re.MULTILINE) == list(GROUPS.values())


@pytest.mark.parametrize("width", [50, 60, 100])
def test_help_at_other_widths(width: int) -> None:
    assert max(map(len, help_text(width).splitlines())) <= width


def test_the_installed_command_has_that_help() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "serve", "--help"],
        env={**os.environ, **ENVIRONMENT, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert re.search(r"\n  --max-inflight-body-bytes BYTES +MTLORA_MAX_INFLIGHT_BODY_BYTES\n", done.stdout)
    assert "--log-level debug|info|warning|error" in done.stdout
