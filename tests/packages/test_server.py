"""What `python -m build` makes of the repository: installed, it serves the bundled sets from an empty folder."""

import shutil
import subprocess
import sysconfig
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mtlora.version import __version__
from testing.paths import ROOT, SAMPLES
from testing.serving import START_TIMEOUT_S, free_port
from tests.deploy.tools import PROGRAMS, needs
from tests.packages.building import (
    COMMIT,
    build,
    copy_of,
    environment_with,
    lend_kernels,
    plain_environment,
    run,
    site_of,
    unpacked,
)

pytestmark = pytest.mark.slow
SETS = {path.name for path in (ROOT / "adapters").iterdir()}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    source = copy_of(ROOT, folder / "checkout", symlinks=True)
    return build("sdist", source, folder / "out", REVISION=COMMIT)


@pytest.fixture(scope="module")
def wheel(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the archive, as `python -m build` does."""
    folder = tmp_path_factory.mktemp("wheel")
    source = unpacked(archive, folder / "source")
    lend_kernels(source)
    return build("wheel", source, folder / "out")


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed command; what it needs comes from the environment of the tests, the package itself does not."""
    python = environment_with(wheel, tmp_path_factory.mktemp("environment") / "venv")
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_of(python) / "shared.pth").write_text("\n".join(sorted(shared)) + "\n")
    return python.with_name("mtlora")


@pytest.fixture
def url(program: Path, tmp_path: Path) -> Iterator[str]:
    """A server that was started in an empty folder."""
    empty = tmp_path / "empty"
    empty.mkdir()
    port, log = free_port(), tmp_path / "log"
    environment = plain_environment() | {"OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        command = [str(program), "serve", "--port", str(port), "--store", str(tmp_path / "store")]
        process = subprocess.Popen(command, cwd=empty, env=environment, stdout=out, stderr=out)
    try:
        wait_ready(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}"
        assert list(empty.iterdir()) == []
    finally:
        process.terminate()
        process.wait(60)


def wait_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError(log.read_text())


def test_the_archive_has_what_a_build_needs(archive: Path) -> None:
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {f"adapters/{name}" for name in SETS} <= names
    sources = {path.name for path in (ROOT / "mtlora" / "kernels" / "src").iterdir()}
    assert {f"mtlora/kernels/src/{name}" for name in sources} <= names
    assert {"LICENSE", "README.md", "setup.py", "pyproject.toml", "constraints.txt", "mtlora/commit.txt"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc")) or "secrets" in name]


def test_the_wheel_has_the_sets_and_no_sources(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        for name in SETS:
            assert opened.read(f"mtlora/adapters/{name}") == (ROOT / "adapters" / name).read_bytes()
        tops = {name.partition("/")[0] for name in names}
    assert tops == {"mtlora", "app", f"mtlora_server-{__version__}.dist-info"}
    assert not [name for name in names if name.endswith((".cpp", ".hpp"))]
    assert {"mtlora/py.typed", "app/web/static/index.html"} <= names


@pytest.mark.skipif(shutil.which("g++") is None, reason="not installed here: g++")
def test_the_wheel_has_the_kernels(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        found = {Path(name).name.partition(".")[0] for name in opened.namelist() if name.endswith(".so")}
    assert found == {"kernels_baseline"} | {
        path.name.partition(".")[0] for path in (ROOT / "mtlora" / "kernels").glob("*.so")
    }


@needs("twine")
def test_twine_has_nothing_against_them(archive: Path, wheel: Path) -> None:
    run([str(shutil.which("twine", path=PROGRAMS)), "check", "--strict", str(archive), str(wheel)])


def test_the_command_says_version_and_commit(program: Path, tmp_path: Path) -> None:
    assert run([str(program), "--version"], cwd=tmp_path) == f"mtlora {__version__} ({COMMIT[:12]})\n"


def test_it_serves_the_bundled_sets_from_an_empty_folder(url: str) -> None:
    listed = {each["name"] for each in httpx.get(f"{url}/adapters").json()["adapters"]}
    assert listed == {name.removesuffix(".safetensors") for name in SETS if name.endswith(".safetensors")} - {
        "backbone"
    }
    photo = (SAMPLES / "astronaut.jpg").read_bytes()
    answer = httpx.post(f"{url}/predict?tasks=semseg&masks=none", files={"image": photo}, timeout=120)
    assert answer.status_code == 200, answer.text
    assert "person" in {each["name"] for each in answer.json()["tasks"]["semseg"]["classes"]}
