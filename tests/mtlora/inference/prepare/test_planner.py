"""A planner decides what the policy in its set's model decides; a pass over its plan gives what that model gives."""

from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mtlora.inference import CpuBackend, Query, ReferenceBackend
from mtlora.inference.backends.backend import Backend
from mtlora.inference.backends.cuda import CudaBackend
from mtlora.inference.forward import batched_ops
from mtlora.inference.prepare.planner import Planner
from mtlora.model.mtlora import MTLoRAModel
from mtlora.vocabulary.errors import MTLoRAError, SpecError
from mtlora.vocabulary.policy import Policy, PolicyMode, PolicySpec
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.weights.adapter_file import AdapterManifest, AdapterSet
from mtlora.weights.backbone import Backbone
from testing.examples import examples
from testing.factories import adapter_spec, make_backbone
from testing.policies import pooled, published, with_policy
from tests.mtlora.model.test_mtlora import specs

SOME = settings(max_examples=examples(12), deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
SAME_ORDER = 1e-4
CUDA = 2

policies = st.builds(
    pooled,
    mode=st.sampled_from(PolicyMode),
    hidden=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    blocks=st.just(True),
    windows=st.booleans(),
) | st.builds(pooled, mode=st.sampled_from(PolicyMode), blocks=st.just(False), windows=st.just(True))


@given(spec=specs(), policy=policies, compute=st.floats(0.2, 1), one_task=st.booleans())
@SOME
def test_a_plan_is_the_model_s_own(spec: AdapterSpec, policy: PolicySpec, compute: float, one_task: bool) -> None:
    model = with_policy(make_backbone(spec.backbone), spec, policy)
    tasks = spec.task_names[-1:] if one_task else spec.task_names
    image = torch.randn(1, 3, spec.image_size, spec.image_size)
    with torch.inference_mode():
        patches = model.backbone.patch_embed(image)
        plan = Planner(model.spec, policy, model.policy_tensors()).plan(patches[0], tasks, compute)
        expected = model.plan(image, tasks, compute)
    for own, right in zip(plan.gates, expected, strict=True):
        assert torch.equal(own.blocks, right.blocks)
        assert (own.windows is None) == (right.windows is None)
        assert own.windows is None or right.windows is None or torch.equal(own.windows, right.windows)
        assert {task: bool(gate) for task, gate in own.streams.items()} == {
            task: bool(gate) for task, gate in right.streams.items()
        }
    assert 0 <= plan.share <= compute + 1e-6


def adapter_set(model: MTLoRAModel, policy: PolicySpec, backbone: Backbone) -> AdapterSet:
    manifest = AdapterManifest(
        format_version=2,
        spec=model.spec,
        backbone_name=backbone.spec.name,
        backbone_fingerprint=backbone.fingerprint(model.spec),
        policy=Policy(**policy.model_dump()),
    )
    return AdapterSet(manifest, model.adapter_tensors(), "", 0, model.policy_tensors())


def backends(backbone: Backbone) -> list[Backend[Any]]:
    return [
        CpuBackend(backbone, merge=True),
        CpuBackend(backbone, merge=False),
        CudaBackend(backbone, merge=False),
        ReferenceBackend(backbone),
    ]


@pytest.mark.parametrize("kind", range(4))
def test_every_backend_plans_and_runs_as_the_model_does(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == CUDA:  # its way of running, on a CPU
        monkeypatch.setenv("MTLORA_NATIVE", "0")
        monkeypatch.setattr(batched_ops, "takes_turns", lambda _: False)
    backbone, policy = make_backbone(), pooled(mode=PolicyMode.PER_TASK)
    model = with_policy(backbone, adapter_spec(), policy)
    backend = backends(backbone)[kind]
    resident = backend.prepare(adapter_set(model, policy, backbone))
    side, tasks = model.spec.image_size, model.spec.task_names
    pictures = torch.randn(3, 3, side, side)
    budgets = (0.3, 1.0, 0.7)
    queries = []
    for picture, compute in zip(pictures, budgets, strict=True):
        query = Query(resident, picture, tasks)
        if compute < 1:
            plan = backend.plan(query, compute)
            assert compute - 0.3 < plan.share <= compute + 1e-6
            query = Query(resident, picture, tasks, plan.gates)
        queries.append(query)
    answers = backend.forward(queries)
    for picture, compute, answer in zip(pictures, budgets, answers, strict=True):
        with torch.inference_mode():
            expected = model.coarse_logits(picture[None], tasks, compute=compute)
        for task in tasks:
            scale = expected[task].abs().max()
            assert (answer[task] - expected[task][0]).abs().max() <= SAME_ORDER * scale


def test_a_set_without_a_policy_has_no_plan() -> None:
    backbone = make_backbone()
    model = with_policy(backbone, adapter_spec(), pooled())
    manifest = AdapterManifest(
        spec=model.spec, backbone_name=backbone.spec.name, backbone_fingerprint=backbone.fingerprint(model.spec)
    )
    backend = CpuBackend(backbone, merge=True)
    resident = backend.prepare(AdapterSet(manifest, model.adapter_tensors(), "", 0))
    side = model.spec.image_size
    with pytest.raises(MTLoRAError, match="no policy"):
        backend.plan(Query(resident, torch.zeros(3, side, side), model.spec.task_names), 0.5)


def test_published_policies_do_not_decide_beforehand() -> None:
    with pytest.raises(SpecError, match="only pooled"):
        Planner(adapter_spec(), published(), {})
