from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mtlora.model.mtlora import build_model, parameter_counts
from mtlora.vocabulary.errors import BackboneError, MTLoRAError, TaskError
from mtlora.vocabulary.spec import AdapterSpec, DecoderKind, SharedMode, TaskSpec
from mtlora.vocabulary.tasks import Task
from mtlora.vocabulary.trainable import is_trainable
from testing.examples import examples
from testing.factories import PASCAL_TASKS, adapter_spec, backbone_spec, make_backbone, make_model, oracle_of

TOLERANCE = 1e-4  # of the largest logit; the two differ in the order of float32 sums only


def assert_same(ours: dict[Task, torch.Tensor], plain: dict[str, torch.Tensor]) -> None:
    assert [task.value for task in ours] == list(plain)
    for task, logits in ours.items():
        largest = plain[task.value].abs().max()
        assert (logits - plain[task.value]).abs().max() <= TOLERANCE * largest, task


@pytest.mark.parametrize("mode", SharedMode)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"learned_scaling": True, "learned_task_scaling": True},
        {"adapt_reduction": True},
        {"intermediate_specialization": True},
        {"adapt_proj": False},
        {"adapt_fc1": False},
        {"adapt_qkv": False, "adapt_fc2": True},
        {"ranks": (3, 0, 2, 1)},
        {"adapt_proj": False, "adapt_fc1": False, "adapt_fc2": False},
    ],
    ids=lambda changes: ",".join(changes) or "plain",
)
def test_equals_the_plain_implementation(mode: SharedMode, changes: dict[str, Any]) -> None:
    model = make_model(make_backbone(), adapter_spec(mode=mode, **changes))
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert_same(model(x), oracle_of(model)(x))


@pytest.mark.parametrize("decoder", DecoderKind)
def test_decoders_equal_the_plain_implementation(decoder: DecoderKind) -> None:
    tasks = tuple(TaskSpec.make(task, decoder=decoder) for task in (Task.SEMSEG, Task.DEPTH))
    model = make_model(make_backbone(), adapter_spec(segformer_channels=12).model_copy(update={"tasks": tasks}))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert_same(model(x), oracle_of(model)(x))


per_stage = st.tuples(*[st.integers(0, 4)] * 4)
scalings = st.tuples(*[st.floats(0.25, 4.0, width=16)] * 4)


@st.composite
def specs(draw: st.DrawFn) -> AdapterSpec:
    names = draw(st.lists(st.sampled_from(list(Task)), min_size=1, max_size=4, unique=True))
    depths = draw(st.tuples(*[st.integers(1, 3)] * 4))
    tasks = tuple(TaskSpec.make(task, ranks=draw(per_stage), scaling=draw(scalings)) for task in names)
    switches = ("adapt_qkv", "adapt_proj", "adapt_fc1", "adapt_reduction", "intermediate_specialization",
                "learned_scaling", "learned_task_scaling")  # fmt: skip
    switched: dict[str, Any] = {name: draw(st.booleans()) for name in switches}
    return adapter_spec(
        backbone_spec(depths=depths, window_size=draw(st.sampled_from([2, 4]))),
        mode=draw(st.sampled_from(SharedMode)),
        ranks=draw(per_stage),
        scaling=draw(scalings),
        **switched,
    ).model_copy(update={"tasks": tasks})


@given(spec=specs(), data=st.data())
@settings(
    max_examples=examples(20), phases=[Phase.explicit, Phase.reuse, Phase.generate]
)  # shrinking costs minutes here
def test_any_spec_equals_the_plain_implementation(spec: AdapterSpec, data: st.DataObject) -> None:
    spec = AdapterSpec.from_json(spec.to_json())
    model = make_model(make_backbone(spec.backbone), spec)
    x = torch.randn(1, 3, 64, 64)
    wanted = data.draw(st.lists(st.sampled_from(spec.task_names), min_size=1, unique=True))
    with torch.inference_mode():
        plain = oracle_of(model)(x)
        assert_same(model(x), plain)
        assert_same(model(x, wanted), {task.value: plain[task.value] for task in wanted})


def test_fresh_adapter_leaves_the_shared_path_as_the_backbone_has_it() -> None:
    backbone = make_backbone()
    from mtlora.weights.backbone import build_swin

    swin = build_swin(backbone.spec, 64).eval()
    swin.load_state_dict(backbone.tensors)
    model = build_model(backbone, adapter_spec()).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = swin.forward_features(x)
        torch.testing.assert_close(model.backbone.forward_features(x), expected, rtol=0, atol=0)


def test_frozen_tensors_are_the_backbones_own_memory() -> None:
    backbone = make_backbone()
    models = [build_model(backbone, adapter_spec()) for _ in range(2)]
    for name, parameter in models[0].named_parameters():
        other = models[1].get_parameter(name)
        if is_trainable(name, models[0].spec):
            assert parameter.requires_grad and parameter.data_ptr() != other.data_ptr()
        else:
            own = backbone.tensors[name.removeprefix("backbone.")]
            assert not parameter.requires_grad
            assert parameter.data_ptr() == other.data_ptr() == own.data_ptr()


def test_only_trainable_tensors_get_gradients() -> None:
    model = build_model(make_backbone(), adapter_spec())
    sum(logits.square().mean() for logits in model(torch.randn(2, 3, 64, 64)).values()).backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    trainable = {name for name, p in model.named_parameters() if is_trainable(name, model.spec)}
    # nothing reads the shared output of the very last linear: every task has a stream of its own there
    unread = {f"backbone.layers.3.blocks.0.mlp.fc2.shared.{part}" for part in ("lora_a", "lora_b")}
    assert with_gradient == trainable - unread


def test_counts_add_up() -> None:
    counts = parameter_counts(build_model(make_backbone(), adapter_spec()))
    assert counts.trainable == counts.lora + counts.decoder + counts.extra
    assert 0 < counts.trainable < counts.total


def test_adapter_tensors_carry_the_whole_set() -> None:
    backbone, spec = make_backbone(), adapter_spec()
    trained = make_model(backbone, spec)
    copy = build_model(backbone, spec).eval()
    copy.load_adapter_tensors(trained.adapter_tensors())
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for task, logits in trained(x).items():
            torch.testing.assert_close(copy(x)[task], logits, rtol=0, atol=0)


def test_refuses_what_does_not_fit() -> None:
    backbone, spec = make_backbone(), adapter_spec()
    model = build_model(backbone, spec)
    with pytest.raises(MTLoRAError, match=r"input must be \[B, 3, 64, 64\], got \[1, 3, 32, 32\]"):
        model(torch.randn(1, 3, 32, 32))
    with pytest.raises(TaskError, match="has no task 'edge'; it has semseg, normals, saliency, human_parts"):
        model(torch.randn(1, 3, 64, 64), [Task.EDGE])
    with pytest.raises(BackboneError, match="the spec wants width 16"):
        build_model(backbone, adapter_spec(backbone_spec(embed_dim=16)))
    tensors = model.adapter_tensors()
    tensors["backbone.ghost"] = tensors.pop("decoders.semseg.mix.bias")
    with pytest.raises(MTLoRAError, match=r"missing \['decoders.semseg.mix.bias'\], unexpected \['backbone.ghost'\]"):
        model.load_adapter_tensors(tensors)


def test_windows_shrink_with_the_input() -> None:
    """At 32 px stages 1..3 are smaller than the window: position biases are resized, nothing is shifted."""
    spec = adapter_spec(image_size=32)
    model = make_model(make_backbone(image_size=64), spec)
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert_same(model(x), oracle_of(model)(x))


def test_all_pascal_tasks_have_the_fields_outputs() -> None:
    with torch.inference_mode():
        out = make_model(make_backbone(), adapter_spec())(torch.randn(1, 3, 64, 64))
    assert {task: tuple(logits.shape) for task, logits in out.items()} == {
        task: (1, outputs, 64, 64) for task, outputs in zip(PASCAL_TASKS, (21, 3, 1, 7), strict=True)
    }
