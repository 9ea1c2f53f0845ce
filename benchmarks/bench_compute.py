"""Time of a pass whose gates leave a share of the encoder's multiply-adds, over that of a pass without gates.

    python -m benchmarks.bench_compute [--quick] [--rounds 21] [--precision int8]

Swin-T at 448 px, shared rank 64, four tasks, batch 1, merged form. Each round draws other gates: random blocks are
closed, and random windows of the others, until a share c of the multiply-adds of the blocks is left. Every gated pass
stands beside one without gates. Figures are medians of the rounds:

compute.ratio40             the gated pass over the other at c = 0.4; likewise 60 and 80
compute.overhead40          this ratio less the share that the drawn gates really leave: the whole pass
compute.encoder_overhead40  the same of the encoder alone: decoders are never skipped
compute.blocks_overhead40   the same of its blocks alone: nor are patch embedding, patch merging and projections
compute.decoders            the decoders' part of a pass without gates
compute.outside             the part of the encoder's time that is outside blocks, without gates
compute.plain_ratio         all gates open over none
"""

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.forward_parts import timed
from benchmarks.gates import gates_of_share
from benchmarks.harness import OtherLoad, save
from benchmarks.sets import FOUR_TASKS, paper_spec, random_set
from mtlora.inference import Query, make_backend
from mtlora.inference.backends import cpu
from mtlora.inference.forward import stage
from mtlora.kernels import status
from mtlora.model.gates import Gates
from mtlora.model.policy.plan import shares
from mtlora.vocabulary.compute_costs import multiply_adds
from mtlora.vocabulary.options import FormKind, Precision
from mtlora.weights.backbone import import_backbone

SIZE, RANK, TASK_RANK = 448, 64, 4
SHARES = (0.4, 0.6, 0.8)

Clock = Callable[[], float]
Seconds = dict[str, float]
"""Of a pass: `all`, of it `encode`, of it `blocks`."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--quick", action="store_true", help="one round: shows that it works, not how fast")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", type=Precision, default=Precision.FLOAT32)
    parser.add_argument("--cpu-time", action="store_true", help="of one thread, beside other load")
    return parser.parse_args()


class Passes:
    """Runs passes of one image, with clocks around their parts."""

    def __init__(self, precision: Precision, clock: Clock) -> None:
        backbone = import_backbone("swin_tiny_patch4_window7_224", pretrained=False)
        self.spec = paper_spec(backbone, SIZE, RANK, TASK_RANK)
        self._backend: Any = make_backend(backbone, FormKind.MERGED, precision=precision)
        self._resident = self._backend.prepare(random_set(backbone, self.spec, 0))
        self._image = torch.randn(3, SIZE, SIZE)
        self._clock = clock
        self._parts: dict[str, list[float]] = defaultdict(list)
        timed(cpu, "encode", self._parts, clock)
        timed(stage, "_run_fused", self._parts, clock)

    def run(self, gates: Gates | None) -> Seconds:
        """Seconds of one pass."""
        self._parts.clear()
        begin = self._clock()
        self._backend.forward([Query(self._resident, self._image, FOUR_TASKS, gates)])
        whole = self._clock() - begin
        return {"all": whole, "encode": sum(self._parts["encode"]), "blocks": sum(self._parts["_run_fused"])}


def measure(passes: Passes, rounds: int) -> dict[str, list[float]]:
    """Every figure of every round."""
    found: dict[str, list[float]] = defaultdict(list)
    everything = gates_of_share(passes.spec, 1.0, 0)
    for _ in range(2):
        passes.run(None)
    for number in range(rounds):
        plain = passes.run(None)
        found["decoders"].append(1 - plain["encode"] / plain["all"])
        found["outside"].append(1 - plain["blocks"] / plain["encode"])
        found["plain_ms"].append(1e3 * plain["all"])
        found["plain_ratio"].append(passes.run(everything)["all"] / plain["all"])
        for share in SHARES:
            gates = gates_of_share(passes.spec, share, 100 * number + int(10 * share))
            left = float(shares(gates, multiply_adds(passes.spec), FOUR_TASKS))
            gated, plain = passes.run(gates), passes.run(None)
            name = f"{round(100 * share)}"
            found[f"share{name}"].append(left)
            found[f"ratio{name}"].append(gated["all"] / plain["all"])
            for figure, part in (("", "all"), ("encoder_", "encode"), ("blocks_", "blocks")):
                found[f"{figure}overhead{name}"].append(gated[part] / plain[part] - left)
    return found


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, torch {torch.__version__}, native: {status().reason}")
    passes = Passes(options.precision, time.thread_time if options.cpu_time else time.perf_counter)
    with torch.inference_mode(), OtherLoad() as load:
        found = measure(passes, 1 if options.quick else options.rounds)
    if load.warning():
        print(load.warning())
    figures = {f"compute.{name}": statistics.median(values) for name, values in found.items()}
    suffix = "" if options.precision is Precision.FLOAT32 else f"_{options.precision}"
    save(
        f"bench_compute{suffix}{'_quick' if options.quick else ''}",
        figures,
        options=vars(options),
        native=status().reason,
        quartiles={name: statistics.quantiles(values) for name, values in found.items() if len(values) > 1},
        other_load=round(load.share, 3),
    )


if __name__ == "__main__":
    main()
