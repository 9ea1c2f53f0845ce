"""The plain form: twins share what is frozen and nothing else."""

import pytest
import torch

from mtlora.inference import Query
from mtlora.inference.backends.reference import ReferenceBackend, twin
from mtlora.vocabulary.errors import MTLoRAError
from testing.equality import make_set
from testing.factories import adapter_spec, make_backbone, make_model
from testing.gated import open_gates


def test_twins_share_frozen_tensors_only() -> None:
    model = make_model(make_backbone(), adapter_spec())
    other = twin(model)
    own = model.adapter_tensors().keys()
    here, there = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (model, other))
    assert here.keys() == there.keys()
    for name, tensor in here.items():
        assert (tensor.data_ptr() == there[name].data_ptr()) == (name not in own), name


def test_gates_are_refused() -> None:
    """It would answer as if they were open."""
    backbone, spec = make_backbone(), adapter_spec()
    backend = ReferenceBackend(backbone)
    query = Query(backend.prepare(make_set(backbone, spec)), torch.zeros(3, 64, 64), spec.task_names, open_gates(spec))
    with pytest.raises(MTLoRAError, match="form plain computes everything: gates must be None, got 1 images with"):
        backend.forward([query])
