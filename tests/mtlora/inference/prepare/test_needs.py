"""What running a set takes of memory: told beforehand, and true."""

import pytest

from mtlora.inference import device_bytes, forward_bytes, make_backend
from mtlora.vocabulary.options import FormKind, Precision
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from testing.equality import make_set
from testing.factories import adapter_spec, make_backbone

SMALL = adapter_spec()
LARGE = adapter_spec(image_size=128)
ONE, TWO = (Task.SEMSEG,), (Task.SEMSEG, Task.NORMALS)


def test_memory_of_a_pass_grows_with_pixels_and_tasks() -> None:
    assert forward_bytes(LARGE, ONE) == 4 * forward_bytes(SMALL, ONE)
    assert forward_bytes(SMALL, ONE) < forward_bytes(SMALL, TWO) < 2 * forward_bytes(SMALL, ONE)


@pytest.mark.parametrize("spec", [SMALL, adapter_spec(train_position_bias=False, adapt_reduction=True)])
def test_bytes_on_the_device_are_those_of_a_set_that_is_there(spec: AdapterSpec) -> None:
    told = device_bytes(spec)
    assert set(told) == {"merged", "lowrank", "merged_int8", "lowrank_int8"}
    backbone = make_backbone()
    for precision in (Precision.FLOAT32, Precision.INT8):
        for kind in (FormKind.MERGED, FormKind.LOWRANK):
            there = make_backend(backbone, kind, precision=precision).prepare(make_set(backbone, spec))
            suffix = "" if precision is Precision.FLOAT32 else "_int8"
            assert told[kind.value + suffix] == there.cost_bytes
