"""Which tensors a model has, by name and shape, straight from its `AdapterSpec`: no model is built, no torch imported.

This is what makes checking an uploaded file cheap: a header is compared with `adapter_shapes(spec)` before a byte of a
tensor is read. A test holds these formulas equal to the built model for random specs.
Names: paper sections 3.2 (TA- and TS-LoRA pairs), 3.3 (task streams), 3.4 (decoders); the backbone's are timm's.
"""

from collections.abc import Iterator
from math import prod

from mtlora.adapter_file.decoder_layout import decoder_shapes
from mtlora.spec import IN_CHANNELS, PATCH_SIZE, AdapterSpec, SharedMode, TaskSpec
from mtlora.trainable import is_decoder, is_lora, is_trainable

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
NamedShapes = Iterator[tuple[str, Shape]]

_STATISTICS = (".running_mean", ".running_var")


def model_shapes(spec: AdapterSpec) -> Shapes:
    """Every tensor of the model of `spec`, frozen ones and BatchNorm statistics included: {name: shape}."""
    shapes: Shapes = {}
    shapes.update(_patch_embed(spec))
    for stage in range(len(spec.backbone.depths)):
        if stage > 0:
            shapes.update(_patch_merging(spec, stage - 1))
        for block in range(spec.backbone.depths[stage]):
            shapes.update(_block(spec, stage, block))
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


def parameter_counts(spec: AdapterSpec) -> dict[str, int]:
    """Parameters as the paper counts them: trainable = lora + decoder (with projections) + extra; total with frozen."""
    adapter = adapter_shapes(spec)
    trainable = count_elements(adapter)
    lora = count_elements({name: shape for name, shape in adapter.items() if is_lora(name)})
    decoder = count_elements({name: shape for name, shape in adapter.items() if is_decoder(name)})
    return {
        "trainable": trainable,
        "lora": lora,
        "decoder": decoder,
        "extra": trainable - lora - decoder,
        "total": trainable + count_elements(frozen_shapes(spec)),
    }


def _patch_embed(spec: AdapterSpec) -> NamedShapes:
    c = spec.backbone.embed_dim
    yield "backbone.patch_embed.proj.weight", (c, IN_CHANNELS, PATCH_SIZE, PATCH_SIZE)
    yield "backbone.patch_embed.proj.bias", (c,)
    yield from _norm("backbone.patch_embed.norm", c)


def _patch_merging(spec: AdapterSpec, stage: int) -> NamedShapes:
    """The merging the paper counts to `stage`; timm keeps it at the start of the next one."""
    prefix = f"backbone.layers.{stage + 1}.downsample"
    c = spec.backbone.stage_dims[stage]
    yield from _norm(f"{prefix}.norm", 4 * c)
    yield f"{prefix}.reduction.weight", (2 * c, 4 * c)
    if spec.adapt_reduction and spec.ranks[stage]:
        yield from _shared_pair(spec, f"{prefix}.reduction", stage, 2 * c, 4 * c)


def _block(spec: AdapterSpec, stage: int, block: int) -> NamedShapes:
    backbone = spec.backbone
    prefix = f"backbone.layers.{stage}.blocks.{block}"
    c = backbone.stage_dims[stage]
    hidden = int(c * backbone.mlp_ratio)
    window = backbone.window_sides(spec.image_size)[stage]
    specialised = spec.intermediate_specialization or block == backbone.depths[stage] - 1
    table = (2 * window - 1) ** 2, backbone.num_heads[stage]
    yield from _norm(f"{prefix}.norm1", c)
    yield f"{prefix}.attn.relative_position_bias_table", table
    yield from _linear(f"{prefix}.attn.qkv", 3 * c, c)
    if spec.adapt_qkv and spec.ranks[stage]:
        yield from _shared_pair(spec, f"{prefix}.attn.qkv", stage, 3 * c, c)
    yield from _linear(f"{prefix}.attn.proj", c, c)
    if spec.adapt_proj:
        yield from _pairs(spec, f"{prefix}.attn.proj", stage, (c, c), specialised)
    yield from _norm(f"{prefix}.norm2", c)
    yield from _linear(f"{prefix}.mlp.fc1", hidden, c)
    if spec.adapt_fc1:
        yield from _pairs(spec, f"{prefix}.mlp.fc1", stage, (hidden, c), specialised)
    yield from _linear(f"{prefix}.mlp.fc2", c, hidden)
    if spec.adapt_fc2:
        yield from _pairs(spec, f"{prefix}.mlp.fc2", stage, (c, hidden), specialised)


def _norm(name: str, width: int) -> NamedShapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _linear(name: str, out: int, inp: int) -> NamedShapes:
    yield f"{name}.weight", (out, inp)
    yield f"{name}.bias", (out,)


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
