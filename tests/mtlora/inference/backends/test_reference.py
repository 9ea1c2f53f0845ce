"""The plain form: twins share what is frozen and nothing else."""

from mtlora.inference.backends.reference import twin
from testing.factories import adapter_spec, make_backbone, make_model


def test_twins_share_frozen_tensors_only() -> None:
    model = make_model(make_backbone(), adapter_spec())
    other = twin(model)
    own = model.adapter_tensors().keys()
    here, there = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (model, other))
    assert here.keys() == there.keys()
    for name, tensor in here.items():
        assert (tensor.data_ptr() == there[name].data_ptr()) == (name not in own), name
