"""The names and shapes of a model's tensors, from its `AdapterSpec` alone: no model is built, no torch imported.

This is what makes checking an uploaded file cheap: a header is compared with `adapter_shapes(spec)` before a byte of a
tensor is read. A test holds these formulas equal to the built model for random specs.
Names: paper sections 3.2 (TA- and TS-LoRA pairs), 3.3 (task streams), 3.4 (decoders); the backbone's are timm's.
"""

from collections.abc import Iterator
from math import prod

from mtlora.vocabulary.decoder_shapes import decoder_shapes
from mtlora.vocabulary.encoder_shapes import encoder_shapes, table_names
from mtlora.vocabulary.spec import AdapterSpec, SharedMode, TaskSpec
from mtlora.vocabulary.trainable import ParameterCounts, is_trainable

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
NamedShapes = Iterator[tuple[str, Shape]]

_STATISTICS = (".running_mean", ".running_var")


def model_shapes(spec: AdapterSpec) -> Shapes:
    """Every tensor of the model of `spec`, frozen ones and BatchNorm statistics included: {name: shape}."""
    shapes: Shapes = {f"backbone.{name}": shape for name, shape in encoder_shapes(spec.backbone).items()}
    shapes.update(_position_tables(spec))
    for stage, depth in enumerate(spec.backbone.depths):
        if stage > 0 and spec.adapt_reduction and spec.ranks[stage - 1]:
            # the merging the paper counts to a stage; timm keeps it at the start of the next one
            name = f"backbone.layers.{stage}.downsample.reduction"
            shapes.update(_shared_pair(spec, name, stage - 1, *shapes[f"{name}.weight"]))
        for block in range(depth):
            shapes.update(_block_pairs(spec, stage, block, shapes))
    for task in spec.tasks:
        shapes.update(_projections(spec, task))
        shapes.update(decoder_shapes(spec, task))
    return shapes


def adapter_shapes(spec: AdapterSpec) -> Shapes:
    """The tensors an adapter file of `spec` must hold, no more and no less."""
    return {name: shape for name, shape in model_shapes(spec).items() if is_trainable(name, spec)}


def frozen_shapes(spec: AdapterSpec) -> Shapes:
    """The tensors that `spec` takes from its backbone: those the fingerprint covers."""
    return {name: shape for name, shape in model_shapes(spec).items() if not is_trainable(name, spec)}


def is_statistic(name: str) -> bool:
    """Whether a tensor is a BatchNorm running statistic: stored like a parameter, counted as none."""
    return name.endswith(_STATISTICS)


def count_elements(shapes: Shapes) -> int:
    """Parameters in `shapes`; BatchNorm statistics do not count."""
    return sum(prod(shape) for name, shape in shapes.items() if not is_statistic(name))


def parameter_counts(spec: AdapterSpec) -> ParameterCounts:
    """Counts of the model of `spec`, by formula; see `ParameterCounts`."""
    sizes = {name: prod(shape) for name, shape in model_shapes(spec).items() if not is_statistic(name)}
    return ParameterCounts.of(sizes, spec)


def _position_tables(spec: AdapterSpec) -> NamedShapes:
    windows = spec.backbone.window_sides(spec.image_size)
    for name in table_names(spec.backbone):
        stage = int(name.split(".")[1])
        yield f"backbone.{name}", ((2 * windows[stage] - 1) ** 2, spec.backbone.num_heads[stage])


def _block_pairs(spec: AdapterSpec, stage: int, block: int, shapes: Shapes) -> NamedShapes:
    """What hangs below the linears of a block; `shapes` has their weights."""
    prefix = f"backbone.layers.{stage}.blocks.{block}"
    last = block == spec.backbone.depths[stage] - 1
    adapted = {
        "attn.qkv": (spec.adapt_qkv, False),
        "attn.proj": (spec.adapt_proj, last or spec.intermediate_specialization),
        "mlp.fc1": (spec.adapt_fc1, last or spec.intermediate_specialization),
        "mlp.fc2": (spec.adapt_fc2, last or spec.intermediate_specialization),
    }
    for linear, (wanted, specialised) in adapted.items():
        if wanted:
            out, inp = shapes[f"{prefix}.{linear}.weight"]
            yield from _pairs(spec, f"{prefix}.{linear}", stage, (out, inp), specialised)


def _norm(name: str, width: int) -> NamedShapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _pairs(spec: AdapterSpec, name: str, stage: int, shape: tuple[int, int], specialised: bool) -> NamedShapes:
    """What hangs below a linear that may carry task pairs; shape: (out, in)."""
    if not spec.ranks[stage]:
        return
    out, inp = shape
    tasks = specialised and spec.mode is not SharedMode.LORA_ONLY
    if tasks and spec.mode is SharedMode.ADDITION:
        yield from _norm(f"{name}.norm", out)
    else:
        yield from _shared_pair(spec, name, stage, out, inp)
    if not tasks:
        return
    for task in spec.tasks:
        if rank := task.ranks[stage]:
            yield from _pair(f"{name}.tasks.{task.task}", rank, (out, inp), spec.learned_task_scaling)


def _shared_pair(spec: AdapterSpec, name: str, stage: int, out: int, inp: int) -> NamedShapes:
    yield from _pair(f"{name}.shared", spec.ranks[stage], (out, inp), spec.learned_scaling)


def _pair(name: str, rank: int, shape: tuple[int, int], learned_scaling: bool) -> NamedShapes:
    out, inp = shape
    yield f"{name}.lora_a", (rank, inp)
    yield f"{name}.lora_b", (out, rank)
    if learned_scaling:
        yield f"{name}.scaling", (1,)


def _projections(spec: AdapterSpec, task: TaskSpec) -> NamedShapes:
    """The 1x1 convolutions, without bias, between a task's four features and its decoder."""
    for scale, (out, inp) in enumerate(zip(spec.decoder_channels, spec.backbone.feature_dims, strict=True)):
        yield f"projections.{task.task}.{scale}.weight", (out, inp, 1, 1)
