"""What the documentation tells people to type works: page by page, against a server with the bundled sets."""

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from testing.paths import ROOT
from testing.serving import ServerProcess, Weights
from tests.e2e.pages import SHELLS, blocks_of, promises, script_of

BUNDLED = Weights(ROOT, ROOT / "adapters" / "backbone.safetensors", ROOT / "adapters", ROOT)
PAGES = (
    "README.md",
    "docs/quickstart.md",
    "docs/client.md",
    "docs/http-api.md",
    "docs/settings.md",
    "docs/operations.md",
    "docs/tutorial.md",
)
ADDRESS = re.compile(r"\b(127\.0\.0\.1|localhost):8000\b")

NOT_RUN = {
    r"^make serve|^(\w+=\S+ )?mtlora serve": "a server, which does not end; another one runs already",
    r"^git clone": "the repository is here",
    r"docker ": "needs Docker; `make image-check` and scripts/compose_check.sh do it",
    r"^mtlora backbone swin": "downloads weights",
    r"^mtlora train --backbone swin-t": "needs those weights, and hours; the tutorial trains",
    r"^mtlora convert published": "needs a published checkpoint; tests/mtlora/test_cli_files.py converts one",
    r"^mtlora evaluate --data DIR": "DIR stands for a dataset; the tutorial has one",
}
SHORTER = {r"--steps \d+": "--steps 2"}
"""Training teaches nothing in so few steps; that it runs, and that its result can be served, is what is tested."""

PRELUDES = {
    "docs/http-api.md": "import httpx, huggingface_hub, numpy as np, pycocotools.coco, tritonclient.http\nserver = 'http://127.0.0.1:8000'\n"
    "photo = open('photo.jpg', 'rb').read()\n"
}
"""Names that a page's fragments of Python take for granted."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of its own for every page, so that numbers of revisions are as the page says."""
    running = ServerProcess(BUNDLED, tmp_path / "store")
    try:
        running.wait_ready()
        yield running
    finally:
        running.stop()


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Where the reader sits: the repository's samples and sets, and files of one's own that pages speak of."""
    folder = tmp_path / "desk"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "samples").symlink_to(ROOT / "docs" / "samples")
    (folder / "adapters").symlink_to(ROOT / "adapters")
    for name in ("photo.jpg", "one.jpg"):
        shutil.copy(ROOT / "docs" / "samples" / "chelsea.jpg", folder / name)
    Image.open(folder / "one.jpg").save(folder / "two.png")
    for name in ("mine", "cats"):
        shutil.copy(ROOT / "adapters" / "cutout.safetensors", folder / f"{name}.safetensors")
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(page: str, server: ServerProcess, desk: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    script = script_of(ROOT / page, desk, [re.compile(pattern) for pattern in NOT_RUN], PRELUDES.get(page, ""))
    for pattern, instead in SHORTER.items():
        script = re.sub(pattern, instead, script)
    for program in desk.glob("line_*.py"):
        program.write_text(ADDRESS.sub(f"127.0.0.1:{server.port}", program.read_text()))
    failed = tmp_path / "failed"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MTLORA_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "MTLORA_URL": server.url,
        "FAILED": str(failed),
    }
    script = script.replace(".venv/bin/mtlora", "mtlora").replace("/etc/mtlora", str(tmp_path / "etc"))
    script = ADDRESS.sub(f"127.0.0.1:{server.port}", script)
    finished = subprocess.run(
        ["bash", "-c", script], cwd=desk, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    shown = "\n".join(line[:200] for line in f"{finished.stdout}\n{finished.stderr}".splitlines()[-60:])
    assert finished.returncode == 0, shown
    assert not failed.exists(), failed.read_text() + shown
    for promise in promises(ROOT / page):
        assert promise in finished.stdout, f"{page} promises {promise!r}\n{shown}"
    _look_at_files(desk)


def _look_at_files(desk: Path) -> None:
    """Every map that was written is one."""
    for path in desk.rglob("*.png"):
        with Image.open(path) as image:
            image.load()
    for path in desk.glob("*.npz"):
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            assert arrays.files


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_what_is_not_run(pattern: str) -> None:
    """Each exception is still needed; its reason is printed."""
    lines = [c for page in PAGES for b in blocks_of(ROOT / page) if b.language in SHELLS for c in b.commands()]
    matching = [line.strip() for line in lines if re.search(pattern, line)]
    assert matching, f"no page says {pattern!r} any more: take it out"
    pytest.skip(f"{'; '.join(matching)[:100]}: {NOT_RUN[pattern]}")
