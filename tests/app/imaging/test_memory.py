"""Encoding takes no more memory than is reckoned with: peaks of real processes against the estimate."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.imaging.render import RenderPlan, encode_bytes
from app.intake.formats import AnswerFormat
from tests.factories import PASCAL_TASKS

SLACK_BYTES = 24 << 20  # bands, logits at the model's size, the allocator
PEAK = Path("/proc/self/clear_refs")
CASES = {
    "json": "semseg,human_parts,saliency,normals",
    "json side by side": "semseg,human_parts,saliency,normals",
    "json rle": "semseg",
    "zip": "depth",
    "npz": "normals",
    "overlay": "normals",
    "hf": "human_parts",
    "coco": "human_parts",
    "v2": "normals",
    "v2 text": "saliency",
}
SCRIPT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import torch
from PIL import Image
from app.imaging.decode import Decoded
from app.imaging.render import RenderPlan, Share, encode_bytes, join, render, separate, to_document
from app.intake.formats import AnswerFormat
from mtlora.tasks import Task
from tests.factories import adapter_spec

def run(tasks, plan, width, height, threads):
    spec = adapter_spec(tasks=tasks, image_size=256)
    source = torch.Generator().manual_seed(0)
    logits = {task: torch.randn(spec.task(task).outputs, 32, 32, generator=source) * 4 for task in tasks}
    photo = Image.new("RGB", (width, height)) if plan.form is AnswerFormat.OVERLAY else None
    decoded = Decoded(torch.zeros(1), width, height)
    shares = separate(plan, tasks, width * height) if threads > 1 else [Share(tasks)]
    with ThreadPoolExecutor(threads) as pool:
        whole = join([*pool.map(lambda share: render(logits, decoded, spec, plan, share, photo), shares)], tasks)
    if plan.form is AnswerFormat.JSON:
        b"".join(to_document(whole, {"id": 1}))

def status(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024

for case in sys.argv[1:]:
    form, names = case.split("=")
    tasks = tuple(Task(name) for name in names.split(","))
    as_text = frozenset(tasks if "text" in form else ())
    plan = RenderPlan(AnswerFormat(form.split()[0]), rle="rle" in form, as_text=as_text, most_values=10**7)
    together = "side by side" in form
    threads = len(tasks) if together else 1
    run(tasks, plan, 64, 48, threads)  # lazy imports are not what is measured
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    run(tasks, plan, 3000, 2000, threads)
    print(form, status("VmHWM") - before, encode_bytes(plan, tasks, 3000 * 2000, side_by_side=together), sep=",")
"""


@pytest.fixture(scope="module")
def peaks() -> dict[str, tuple[int, int]]:
    """By case: bytes at the peak of a real process, and bytes reckoned with."""
    cases = [f"{form}={tasks}" for form, tasks in CASES.items()]
    environment = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "1048576",
        "OMP_NUM_THREADS": "1",
    }  # nothing kept between cases
    command = [sys.executable, "-c", SCRIPT, *cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environment)
    rows = (line.split(",") for line in done.stdout.splitlines())
    return {form: (int(peak), int(estimate)) for form, peak, estimate in rows}


@pytest.mark.skipif(not PEAK.exists(), reason="peaks of a process are known on Linux only")
@pytest.mark.parametrize("form", CASES)
def test_peak_is_within_the_estimate(peaks: dict[str, tuple[int, int]], form: str) -> None:
    peak, estimate = peaks[form]
    assert estimate / 4 < peak < estimate + SLACK_BYTES


def test_the_largest_photo_with_every_task_takes_less_than_a_gigabyte() -> None:
    assert encode_bytes(RenderPlan(AnswerFormat.JSON), PASCAL_TASKS, 50_000_000) < 1 << 30
