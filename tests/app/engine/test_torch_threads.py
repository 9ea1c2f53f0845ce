"""Denormal numbers count as zero in the service's threads, and in those that share the engine's operators."""

import subprocess
import sys

import pytest

THREADS = """
import asyncio
import torch
from app.engine.micro_batch import BatchLimits
from app.engine.worker import Worker
from app.composition.pools import Pools
from app.startup.settings import Settings
from app.engine.torch_threads import use_threads
from mtlora.ops.denormals import are_zero
from testing.fake_engine import FakeEngine, NoEvents

tiny = torch.full((3000, 1000), 1e-39)

def all_zero():
    return not (tiny * 0.5).view(torch.int32).any()

async def main():
    pools = Pools.make(Settings())
    pools.warm(Settings())
    worker = Worker(FakeEngine(), NoEvents(), BatchLimits(images=1), threads=3)
    worker.start()
    found = []
    await worker.call(lambda: found.append((torch.get_num_threads(), all_zero())))
    assert found == [(3, True)], found  # by the first operator already
    worker.stop()
    for pool in (pools.codec, pools.loader, pools.uploads):
        assert pool.submit(are_zero).result()
    pools.close()

asyncio.run(main())
torch.set_num_threads(3)
assert not all_zero()  # here nobody asked for it; three threads have begun
use_threads(3)
assert all_zero()
print("done")
"""


@pytest.mark.slow
def test_denormal_numbers_are_zero_in_all_threads_that_compute() -> None:
    """In a process of its own: the mode and the number of threads stay."""
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "done\n", done.stderr
