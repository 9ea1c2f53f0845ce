"""The engine alone: images a second of the form that the service runs, no HTTP, no photos. JSON in, JSON out.

in:  {"backbone", "set", "seconds", "threads", "images"}, maybe "device", "precision"; images: in one call
out: {"images_per_s", "ms_per_image"}
"""

import time
from typing import Any

import torch

from benchmarks.lab import answer
from mtlora.inference import Query, make_backend
from mtlora.vocabulary.options import Precision
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone


def measure(plan: dict[str, Any]) -> dict[str, float]:
    """Forward passes of all tasks for so many seconds, after some that do not count."""
    if plan["threads"]:
        torch.set_num_threads(plan["threads"])
    backbone = load_backbone(plan["backbone"]).to(plan.get("device", "cpu"))
    backend = make_backend(backbone, precision=Precision(plan.get("precision", "float32")))
    resident = backend.prepare(load_adapter(plan["set"]))
    size = resident.spec.image_size
    queries = [Query(resident, torch.randn(3, size, size), resident.spec.task_names) for _ in range(plan["images"])]
    for _ in range(3):  # on a GPU the second is recorded
        backend.forward(queries)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < plan["seconds"]:
        backend.forward(queries)
        count += len(queries)
    seconds = time.perf_counter() - begin
    return {"images_per_s": count / seconds, "ms_per_image": 1e3 * seconds / count}


if __name__ == "__main__":
    answer(measure)
