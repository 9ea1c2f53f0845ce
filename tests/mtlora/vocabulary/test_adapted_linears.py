"""Which linear has which pair: expectations are the paper's rules (sections 3.2 and 3.3) written out by hand."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings

from mtlora.vocabulary.adapted_linears import AdaptedLinear, adapted_linears, gives_streams, place_of_lora_a
from mtlora.vocabulary.model_shapes import adapter_shapes
from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec, SharedMode, TaskSpec
from mtlora.vocabulary.tasks import Task
from testing.examples import examples
from testing.strategies import adapter_specs

SWIN_TINY = BackboneSpec(name="swin_tiny", embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=7)
SMALL = BackboneSpec(name="small", embed_dim=8, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4), window_size=4)
TASKS = (Task.SEMSEG, Task.NORMALS)


def spec_of(backbone: BackboneSpec = SMALL, task_ranks: tuple[int, ...] = (2, 5), **changes: Any) -> AdapterSpec:
    """Two tasks, shared ranks 3, 4, 6, 7, scalings that tell stages apart."""
    fields: dict[str, Any] = {
        "backbone": backbone,
        "image_size": 224 if backbone is SWIN_TINY else 128,
        "ranks": (3, 4, 6, 7),
        "scaling": (1.0, 2.0, 3.0, 4.0),
        "tasks": tuple(
            TaskSpec.make(task, ranks=(rank,) * 4, scaling=(0.1, 0.2, 0.3, 0.4))
            for task, rank in zip(TASKS, task_ranks, strict=True)
        ),
    }
    return AdapterSpec(**(fields | changes))


def by_name(spec: AdapterSpec) -> dict[str, AdaptedLinear]:
    return {linear.name: linear for linear in adapted_linears(spec)}


def test_published_default_written_out() -> None:
    """Shared pairs at qkv, proj, fc1, fc2 of every block, task pairs at all but qkv of a stage's last block."""
    found = [
        (linear.name, linear.in_features, linear.out_features, [pair and pair.rank for pair in linear.tasks])
        for linear in adapted_linears(spec_of())
    ]
    assert found == [
        ("layers.0.blocks.0.attn.qkv", 8, 24, []),
        ("layers.0.blocks.0.attn.proj", 8, 8, []),
        ("layers.0.blocks.0.mlp.fc1", 8, 32, []),
        ("layers.0.blocks.0.mlp.fc2", 32, 8, []),
        ("layers.0.blocks.1.attn.qkv", 8, 24, []),
        ("layers.0.blocks.1.attn.proj", 8, 8, [2, 5]),
        ("layers.0.blocks.1.mlp.fc1", 8, 32, [2, 5]),
        ("layers.0.blocks.1.mlp.fc2", 32, 8, [2, 5]),
        ("layers.1.blocks.0.attn.qkv", 16, 48, []),
        ("layers.1.blocks.0.attn.proj", 16, 16, [2, 5]),
        ("layers.1.blocks.0.mlp.fc1", 16, 64, [2, 5]),
        ("layers.1.blocks.0.mlp.fc2", 64, 16, [2, 5]),
        ("layers.2.blocks.0.attn.qkv", 32, 96, []),
        ("layers.2.blocks.0.attn.proj", 32, 32, [2, 5]),
        ("layers.2.blocks.0.mlp.fc1", 32, 128, [2, 5]),
        ("layers.2.blocks.0.mlp.fc2", 128, 32, [2, 5]),
        ("layers.3.blocks.0.attn.qkv", 64, 192, []),
        ("layers.3.blocks.0.attn.proj", 64, 64, [2, 5]),
        ("layers.3.blocks.0.mlp.fc1", 64, 256, [2, 5]),
        ("layers.3.blocks.0.mlp.fc2", 256, 64, [2, 5]),
    ]


def test_numbers_of_swin_tiny() -> None:
    """At width C a block's shared pairs have 16 C r numbers, each task's 12 C r: 70,656 r and 17,280 r in all."""
    linears = list(adapted_linears(spec_of(SWIN_TINY, ranks=(64,) * 4, task_ranks=(4, 16))))
    assert len(linears) == 48 and sum(linear.splits for linear in linears) == 12
    shared = [linear.shared for linear in linears if linear.shared]
    assert sum(pair.rank * (pair.in_features + pair.out_features) for pair in shared) == 70_656 * 64
    of_tasks = [pair for linear in linears for pair in linear.tasks if pair]
    assert sum(pair.rank * (pair.in_features + pair.out_features) for pair in of_tasks) == 17_280 * (4 + 16)


def test_pairs_have_rank_and_scaling_of_their_stage() -> None:
    for linear in adapted_linears(spec_of(adapt_reduction=True)):
        assert linear.shared is not None
        assert (linear.shared.rank, linear.shared.scaling) == ((3, 4, 6, 7)[linear.stage], linear.stage + 1.0)
        assert all(pair is None or pair.scaling == (0.1, 0.2, 0.3, 0.4)[linear.stage] for pair in linear.tasks)


def test_patch_merging_belongs_to_the_stage_that_it_ends() -> None:
    """MTLoRA+: a shared pair of that stage's rank, never a task's; 4 C features become 2 C."""
    merging = [linear for linear in adapted_linears(spec_of(adapt_reduction=True)) if linear.block is None]
    assert [
        (m.name, m.stage, m.in_features, m.out_features, m.shared and m.shared.rank, m.splits) for m in merging
    ] == [
        ("layers.1.downsample.reduction", 0, 32, 16, 3, False),
        ("layers.2.downsample.reduction", 1, 64, 32, 4, False),
        ("layers.3.downsample.reduction", 2, 128, 64, 6, False),
    ]
    everywhere = spec_of(adapt_reduction=True, intermediate_specialization=True)
    assert not any(linear.splits for linear in adapted_linears(everywhere) if linear.block is None)


@pytest.mark.parametrize(
    ("switch", "ending"),
    [("adapt_qkv", "qkv"), ("adapt_proj", "proj"), ("adapt_fc1", "fc1"), ("adapt_fc2", "fc2")],
)
def test_a_switch_leaves_one_kind_of_linear_plain(switch: str, ending: str) -> None:
    everything = by_name(spec_of())
    kept = {name: linear for name, linear in everything.items() if not name.endswith(ending)}
    assert len(kept) == len(everything) * 3 // 4
    switched: dict[str, Any] = {switch: False}
    assert by_name(spec_of(**switched)) == kept


def test_rank_zero_switches_off_a_stage_and_the_merging_that_ends_it() -> None:
    names = by_name(spec_of(ranks=(3, 0, 6, 7), adapt_reduction=True))
    assert not any(name.startswith(("layers.1.blocks.", "layers.2.downsample.")) for name in names)
    assert {"layers.1.downsample.reduction", "layers.3.downsample.reduction"} <= names.keys()


def test_a_task_of_rank_zero_keeps_its_place() -> None:
    """The task has an output, the base alone; pairs computed together are padded to the largest rank, at least 1."""
    linear = by_name(spec_of(task_ranks=(0, 5)))["layers.1.blocks.0.mlp.fc1"]
    assert [pair and pair.name for pair in linear.tasks] == [None, "backbone.layers.1.blocks.0.mlp.fc1.tasks.normals"]
    assert [pair.name.rpartition("fc1.")[2] for pair in linear.pairs] == ["shared", "tasks.normals"]
    assert linear.task_rank == 5
    none = by_name(spec_of(task_ranks=(0, 0)))["layers.1.blocks.0.mlp.fc1"]
    assert none.splits and none.tasks == (None, None) and none.task_rank == 1


@pytest.mark.parametrize(
    ("mode", "shared", "splits", "base_has_pair", "norm"),
    [
        (SharedMode.MATRIX, True, True, False, False),
        (SharedMode.MATRIX_V2, True, True, True, False),
        (SharedMode.ADDITION, False, True, False, True),
        (SharedMode.LORA_ONLY, True, False, False, False),
    ],
)
def test_modes(mode: SharedMode, shared: bool, splits: bool, base_has_pair: bool, norm: bool) -> None:
    """What a mode changes, it changes where tasks have outputs; elsewhere there is a shared pair in any mode."""
    for linear in adapted_linears(spec_of(mode=mode, adapt_reduction=True)):
        tasked = (linear.stage > 0 or linear.block == 1) and linear.linear in {"attn.proj", "mlp.fc1", "mlp.fc2"}
        tasked = tasked and linear.block is not None
        assert linear.specialised == tasked
        found = (linear.shared is not None, linear.splits, linear.base_has_pair, linear.norm)
        assert found == ((shared, splits, base_has_pair, norm) if tasked else (True, False, False, False))
        assert len(linear.tasks) == (2 if linear.splits else 0)


def test_intermediate_specialisation_puts_task_pairs_in_every_block() -> None:
    split = {linear.name for linear in adapted_linears(spec_of(intermediate_specialization=True)) if linear.splits}
    assert {f"layers.0.blocks.0.{linear}" for linear in ("attn.proj", "mlp.fc1", "mlp.fc2")} <= split
    assert len(split) == 15 and not any(name.endswith("qkv") for name in split)


@pytest.mark.parametrize(
    ("changes", "first", "last"),
    [
        ({}, False, True),
        ({"intermediate_specialization": True}, False, True),  # streams start afresh in each block: nobody reads these
        ({"intermediate_specialization": True, "mode": SharedMode.ADDITION}, True, True),
        ({"mode": SharedMode.ADDITION}, False, True),
        ({"mode": SharedMode.MATRIX_V2}, False, True),
        ({"mode": SharedMode.LORA_ONLY}, False, False),
        ({"adapt_proj": False}, False, True),
        ({"adapt_fc2": False}, False, True),
        ({"adapt_proj": False, "adapt_fc2": False}, False, False),  # fc1 alone reaches no residual
        ({"ranks": (0, 4, 6, 7)}, False, False),
        ({"task_ranks": (0, 0)}, False, True),
    ],
    ids=str,
)
def test_blocks_that_give_streams(changes: dict[str, Any], first: bool, last: bool) -> None:
    spec = spec_of(**changes)
    assert [gives_streams(spec, 0, block) for block in (0, 1)] == [first, last]


@pytest.mark.parametrize("learned", [False, True])
def test_tensors_of_a_linear(learned: bool) -> None:
    spec = spec_of(task_ranks=(0, 5), learned_scaling=learned, learned_task_scaling=learned)
    linear = by_name(spec)["layers.0.blocks.1.mlp.fc2"]
    prefix = "backbone.layers.0.blocks.1.mlp.fc2"
    assert linear.prefix == prefix
    assert list(linear.tensors()) == [
        (f"{prefix}.shared.lora_a", (3, 32)),
        (f"{prefix}.shared.lora_b", (8, 3)),
        *([(f"{prefix}.shared.scaling", (1,))] if learned else []),
        (f"{prefix}.tasks.normals.lora_a", (5, 32)),
        (f"{prefix}.tasks.normals.lora_b", (8, 5)),
        *([(f"{prefix}.tasks.normals.scaling", (1,))] if learned else []),
    ]


def test_tensors_of_a_linear_in_mode_addition() -> None:
    linear = by_name(spec_of(task_ranks=(0, 5), mode=SharedMode.ADDITION))["layers.0.blocks.1.mlp.fc1"]
    assert [(name.rpartition("fc1.")[2], shape) for name, shape in linear.tensors()] == [
        ("norm.weight", (32,)),
        ("norm.bias", (32,)),
        ("tasks.normals.lora_a", (5, 8)),
        ("tasks.normals.lora_b", (32, 5)),
    ]


@settings(max_examples=examples(30), deadline=None)
@given(adapter_specs())
def test_the_place_of_a_pair_can_be_told_from_its_name(spec: AdapterSpec) -> None:
    """Of every pair, whatever the spec; and of no other tensor of a set."""
    expected = {
        f"{pair.name}.lora_a": (linear.stage, pair.name.removeprefix(f"{linear.prefix}."))
        for linear in adapted_linears(spec)
        for pair in linear.pairs
    }
    assert {name: place for name in adapter_shapes(spec) if (place := place_of_lora_a(name))} == expected


@pytest.mark.parametrize(
    "name",
    [
        "backbone.layers.0.blocks.1.mlp.fc1.shared.lora_b",
        "backbone.layers.0.blocks.1.mlp.act.shared.lora_a",
        "backbone.layers.1.downsample.norm.shared.lora_a",
        "backbone.layers.1.blocks.0.downsample.reduction.shared.lora_a",
        "layers.0.blocks.1.mlp.fc1.shared.lora_a",
    ],
)
def test_names_of_no_pair(name: str) -> None:
    assert place_of_lora_a(name) is None


def test_no_torch_is_imported() -> None:
    script = "import sys, mtlora.vocabulary.adapted_linears; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
