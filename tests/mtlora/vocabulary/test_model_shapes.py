"""The formulas of `layout` equal the tensors of the built model."""

from hypothesis import HealthCheck, given, settings

from mtlora.model.mtlora import build_model
from mtlora.model.mtlora import parameter_counts as model_counts
from mtlora.vocabulary.model_shapes import adapter_shapes, frozen_shapes, model_shapes, parameter_counts
from mtlora.vocabulary.spec import AdapterSpec
from testing.examples import examples
from testing.small_models import random_backbone
from testing.strategies import adapter_specs


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(adapter_specs())
def test_formulas_equal_the_built_model(spec: AdapterSpec) -> None:
    """Names, shapes and counts of a spec are those of the model that is built from it."""
    model = build_model(random_backbone(spec), spec)
    built = {n: tuple(t.shape) for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert model_shapes(spec) == built
    assert adapter_shapes(spec) == {name: tuple(t.shape) for name, t in model.adapter_tensors().items()}
    assert parameter_counts(spec) == model_counts(model)


@settings(max_examples=examples(20), deadline=None)
@given(adapter_specs())
def test_adapter_and_frozen_tensors_are_the_whole_model(spec: AdapterSpec) -> None:
    """Every tensor is either in the adapter file or in the backbone, never in both."""
    assert adapter_shapes(spec) | frozen_shapes(spec) == model_shapes(spec)
    assert not adapter_shapes(spec).keys() & frozen_shapes(spec).keys()
