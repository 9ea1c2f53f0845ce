"""Does a policy pay? Scores and time of a set whose policy decides, against cheaper ways to save as much.

    python -m benchmarks.bench_policy --data DIR --adapter gated.safetensors [--backbone FILE] [--photos 180]

Every way is scored on the same photos of the split `val`, and timed on the first of them, all ways taking turns in one
process, as `median of its passes / median of whole passes`. What a policy takes to decide counts as its time.

    whole             everything is computed, in float32: what the others are compared with
    policy C          the set's policy spends the share C on each photo
    fixed C           the same blocks and windows for every photo: those that the policy values most on average over
                      photos of the split `train`; nothing is decided for a photo
    int8              everything is computed, in 8-bit integers
    policy C int8     both
    112 px            the plain model on photos of half the side, over the plain model at the whole side
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.harness import OtherLoad, interleaved, median_ms, save
from mtlora.data.layout import open_dataset
from mtlora.evaluation.evaluate import evaluate
from mtlora.images.opening import open_photo
from mtlora.inference import Query, make_backend
from mtlora.kernels import status
from mtlora.metrics import HEADLINE
from mtlora.model.gates import Gates
from mtlora.model.mtlora import MTLoRAModel, build_model
from mtlora.model.policy.plan import Owners, within_budget
from mtlora.ops.preprocess import preprocess
from mtlora.prediction.gated import build_plain
from mtlora.training.pretraining.resolution import set_side
from mtlora.vocabulary.compute_costs import multiply_adds
from mtlora.vocabulary.options import FormKind, Precision
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterSet, load_adapter
from mtlora.weights.backbone import Backbone, load_backbone
from mtlora.weights.bundled import find_adapter, find_backbone

SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
INT8_SHARES = (0.6,)
SMALL_SIDE = 112
AVERAGED = 200  # photos of `train` that fixed gates are made from


class Way(Protocol):
    """A `Predictor` that can be timed."""

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the set."""

    def coarse_logits(self, x: Tensor, tasks: Sequence[Task] | None = None) -> dict[Task, Tensor]:
        """float32 [B, 3, S, S] -> float [B, K, S/8, S/8] for each task."""


class Engine:
    """The set in the engine: whole, within a budget, or with the same gates for all photos."""

    def __init__(self, backend: Any, resident: Any, *, compute: float = 1.0, gates: Gates | None = None) -> None:
        self._backend, self._resident, self._compute, self._gates = backend, resident, compute, gates

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the set."""
        spec: AdapterSpec = self._resident.spec
        return spec

    def coarse_logits(self, x: Tensor, tasks: Sequence[Task] | None = None) -> dict[Task, Tensor]:
        """float32 [B, 3, S, S] -> float [B, K, S/8, S/8] for each task."""
        wanted = self.spec.select(tuple(tasks) if tasks else None)
        queries = [Query(self._resident, pixels, wanted, self._of(pixels, wanted)) for pixels in x]
        each = self._backend.forward(queries)
        return {task: torch.stack([logits[task] for logits in each]) for task in wanted}

    def _of(self, pixels: Tensor, tasks: tuple[Task, ...]) -> Gates | None:
        if self._gates is not None or self._compute == 1:
            return self._gates
        gates: Gates = self._backend.plan(Query(self._resident, pixels, tasks), self._compute).gates
        return gates


class Smaller:
    """The plain model, on photos of another side."""

    def __init__(self, model: MTLoRAModel, side: int) -> None:
        self._model, self._side = model, side
        self.spec = model.spec.model_copy(update={"image_size": side})  # unchecked: no engine takes 112 px

    def coarse_logits(self, x: Tensor, tasks: Sequence[Task] | None = None) -> dict[Task, Tensor]:
        """float32 [B, 3, S, S] -> float [B, K, S/8, S/8] for each task."""
        with set_side(self._model, self._side), torch.inference_mode():
            return self._model.coarse_logits(x, tasks)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--adapter", required=True, help="adapter file with a pooled policy, or a bundled set's name")
    parser.add_argument("--backbone", type=Path, help="default: the bundled one")
    parser.add_argument("--photos", type=int, default=0, help="of `val`; 0: all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cpu-time", action="store_true", help="of one thread, beside other load")
    return parser.parse_args()


def average_gates(model: MTLoRAModel, pixels: Sequence[Tensor], compute: float) -> Gates:
    """What the policy opens where every photo has the mean of all photos' logits."""
    with torch.inference_mode():
        each = [model.policy_logits(x[None], compute) for x in pixels]
        mean = [torch.stack(stage).mean(dim=0) for stage in zip(*each, strict=True)]
    policy: Any = model.policy
    owners = Owners.of(policy.owners, model.spec.task_names)
    return within_budget(mean, multiply_adds(model.spec), owners, compute, windows=policy.policy.windows)


def ways(backbone: Backbone, adapter: AdapterSet, averaged: Sequence[Tensor]) -> dict[str, Way]:
    """All that is compared, by name."""
    floats: Any = make_backend(backbone, FormKind.MERGED)
    integers: Any = make_backend(backbone, FormKind.MERGED, precision=Precision.INT8)
    of_floats, of_integers = floats.prepare(adapter), integers.prepare(adapter)
    model, _ = build_plain(backbone, adapter)
    small = build_model(backbone, adapter.manifest.spec)
    small.load_adapter_tensors(adapter.tensors)
    small.eval().requires_grad_(False)
    found: dict[str, Way] = {"whole": Engine(floats, of_floats), "int8": Engine(integers, of_integers)}
    for share in SHARES:
        found[f"policy {share:g}"] = Engine(floats, of_floats, compute=share)
        found[f"fixed {share:g}"] = Engine(floats, of_floats, gates=average_gates(model, averaged, share))
    for share in INT8_SHARES:
        found[f"policy {share:g} int8"] = Engine(integers, of_integers, compute=share)
    found["plain"] = Smaller(small, adapter.manifest.spec.image_size)
    found[f"{SMALL_SIDE} px"] = Smaller(small, SMALL_SIDE)
    return found


def pixels_of(data: Path, split: str, spec: AdapterSpec, count: int) -> list[Tensor]:
    """Photos of a split, evenly from its list, as the model takes them."""
    return [preprocess(open_photo(record.photo), spec) for record in open_dataset(data, split).spread(count).records]


def time_all(found: dict[str, Way], photos: Sequence[Tensor], rounds: int, *, cpu_time: bool) -> dict[str, float]:
    """Median milliseconds of a pass of each way."""

    def turn(way: Way) -> Any:
        side = way.spec.image_size
        shown = [torch.nn.functional.interpolate(p[None], (side, side), mode="bilinear") for p in photos]
        numbers = iter(range(10**9))
        return lambda: way.coarse_logits(shown[next(numbers) % len(shown)])

    clock = time.thread_time if cpu_time else time.perf_counter
    seconds = interleaved({name: turn(way) for name, way in found.items()}, rounds=rounds, warmup=2, clock=clock)
    return {name: median_ms(each) for name, each in seconds.items()}


def main() -> None:
    options = parse()
    torch.set_num_threads(1 if options.cpu_time else options.threads)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, native: {status().reason}")
    backbone, adapter = load_backbone(find_backbone(options.backbone)), load_adapter(find_adapter(options.adapter))
    spec = adapter.manifest.spec
    found = ways(backbone, adapter, pixels_of(options.data, "train", spec, AVERAGED))
    dataset = open_dataset(options.data, "val").spread(options.photos)
    with OtherLoad() as load:
        ms = time_all(found, pixels_of(options.data, "val", spec, 16), options.rounds, cpu_time=options.cpu_time)
    if load.warning():
        print(load.warning())
    figures: dict[str, float] = {}
    for name, way in found.items():
        base = "plain" if name.endswith(" px") or name == "plain" else "whole"
        reports = evaluate(way, dataset)
        scores = {task: report.scores[HEADLINE[task]] for task, report in reports.items()}
        key = name.replace(" ", "_")
        figures[f"policy.{key}.ms"], figures[f"policy.{key}.time"] = ms[name], ms[name] / ms[base]
        figures |= {f"policy.{key}.{task}": score for task, score in scores.items()}
        shown = "  ".join(f"{task} {score:.4f}" for task, score in scores.items())
        print(f"{name:16} {ms[name]:7.1f} ms  {ms[name] / ms[base]:.3f}  {shown}", flush=True)
    save("bench_policy", figures, options={k: str(v) for k, v in vars(options).items()}, native=status().reason)


if __name__ == "__main__":
    main()
