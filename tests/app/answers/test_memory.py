"""Encoding takes no more memory than is reckoned with: peaks of real processes against the estimate."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.answers.costs import encode_bytes
from app.answers.negotiation import AnswerFormat
from app.answers.plan import Extent, RenderPlan
from testing.factories import PASCAL_TASKS

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
import numpy as np
from app.core.decoded_photo import Decoded
from app.answers.costs import encode_bytes
from app.answers.plan import Extent, RenderPlan
from app.answers.render import Share, join, put_together, render, separate
from app.answers.negotiation import AnswerFormat
from mtlora.vocabulary.tasks import Task
from testing.factories import adapter_spec

def run(tasks, plan, width, height, threads):
    spec = adapter_spec(tasks=tasks, image_size=256)
    source = torch.Generator().manual_seed(0)
    logits = {task: torch.randn(spec.task(task).outputs, 32, 32, generator=source) * 4 for task in tasks}
    overlay = plan.form is AnswerFormat.OVERLAY
    noise = lambda: np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    decoded = Decoded(torch.zeros(1), width, height)
    shares = separate(plan, tasks, Extent(width, height, 256)) if threads > 1 else [Share(tasks)]
    draw = lambda share: render(logits, decoded, spec, plan, share, photo=noise if overlay else None)
    with ThreadPoolExecutor(threads) as pool:
        whole = join([*pool.map(draw, shares)], tasks)
    put_together(whole, tasks, plan).end(lambda: {"id": 1})

def status(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024

width, height = map(int, sys.argv[1].split("x"))
for case in sys.argv[2:]:
    form, names = case.split("=")
    tasks = tuple(Task(name) for name in names.split(","))
    as_text = frozenset(tasks if "text" in form else ())
    plan = RenderPlan(AnswerFormat(form.split()[0]), rle="rle" in form, as_text=as_text, most_values=10**7)
    together = "side by side" in form
    threads = len(tasks) if together else 1
    run(tasks, plan, 64, 48, threads)  # lazy imports are not what is measured
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    run(tasks, plan, width, height, threads)
    estimate = encode_bytes(plan, tasks, Extent(width, height, 256), side_by_side=together)
    print(form, status("VmHWM") - before, estimate, sep=",")
"""


def measured(size: str) -> dict[str, tuple[int, int]]:
    """By case: bytes at the peak of a real process, and bytes reckoned with."""
    cases = [f"{form}={tasks}" for form, tasks in CASES.items()]
    environment = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "1048576",
        "OMP_NUM_THREADS": "1",
    }  # nothing kept between cases
    command = [sys.executable, "-c", SCRIPT, size, *cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environment)
    rows = (line.split(",") for line in done.stdout.splitlines())
    return {form: (int(peak), int(estimate)) for form, peak, estimate in rows}


@pytest.fixture(scope="module")
def peaks() -> dict[str, tuple[int, int]]:
    return measured("3000x2000")


@pytest.fixture(scope="module", params=["1x65535", "65535x1", "20x50000"])
def peaks_of_extremes(request: pytest.FixtureRequest) -> dict[str, tuple[int, int]]:
    return measured(request.param)


@pytest.mark.skipif(not PEAK.exists(), reason="peaks of a process are known on Linux only")
@pytest.mark.parametrize("form", CASES)
@pytest.mark.slow
def test_peak_is_within_the_estimate(peaks: dict[str, tuple[int, int]], form: str) -> None:
    peak, estimate = peaks[form]
    assert estimate / 16 < peak < estimate + SLACK_BYTES


@pytest.mark.skipif(not PEAK.exists(), reason="peaks of a process are known on Linux only")
@pytest.mark.parametrize("form", CASES)
@pytest.mark.slow
def test_narrow_photos_take_no_more_than_is_reckoned_with(
    peaks_of_extremes: dict[str, tuple[int, int]], form: str
) -> None:
    peak, estimate = peaks_of_extremes[form]
    assert peak < estimate + SLACK_BYTES


@pytest.mark.slow
def test_the_largest_photo_with_every_task_takes_less_than_half_a_gigabyte() -> None:
    assert encode_bytes(RenderPlan(AnswerFormat.JSON), PASCAL_TASKS, Extent(10_000, 5_000, 224)) < 1 << 29


@pytest.mark.parametrize("form", [form for form in AnswerFormat if form is not AnswerFormat.V2])
def test_the_estimate_does_not_depend_on_which_side_is_long(form: AnswerFormat) -> None:
    """But for a byte for each row of a PNG."""
    tall, wide = (
        encode_bytes(RenderPlan(form, rle=True), PASCAL_TASKS, Extent(*size, 224))
        for size in ((20, 50_000), (50_000, 20))
    )
    assert abs(tall - wide) <= 50_000 * 12 + 50_000 * 20 * 48
