"""Names and shapes of an AdaMTL model's tensors, from its spec alone."""

from collections.abc import Iterator

from mtlora.adamtl.spec import AdaSpec, AdaTask
from mtlora.vocabulary.encoder_shapes import encoder_shapes, table_names
from mtlora.vocabulary.model_shapes import Shapes

NamedShapes = Iterator[tuple[str, tuple[int, ...]]]

SCALES = 4


def adamtl_shapes(spec: AdaSpec) -> Shapes:
    """Every tensor that a file of `spec` holds: {name: shape}; BatchNorm statistics too."""
    shapes: Shapes = {f"backbone.{name}": shape for name, shape in encoder_shapes(spec.backbone).items()}
    windows = spec.backbone.window_sides(spec.image_size)
    for name in table_names(spec.backbone):
        stage = int(name.split(".")[1])
        shapes[f"backbone.{name}"] = ((2 * windows[stage] - 1) ** 2, spec.backbone.num_heads[stage])
    shapes.update(_selectors(spec))
    for task in spec.tasks:
        shapes.update(_decoder(spec, task))
    return shapes


def is_policy(name: str) -> bool:
    """Whether a tensor belongs to a selector."""
    return name.startswith("policy.")


def _selectors(spec: AdaSpec) -> NamedShapes:
    stages = zip(spec.backbone.stage_dims, spec.backbone.depths, spec.stage_tokens, strict=True)
    for stage, (width, depth, tokens) in enumerate(stages):
        for owner in spec.owners:
            if spec.ada_blocks:
                inner = f"policy.blocks.{owner}.{stage}"
                yield from _linear(f"{inner}.hidden", width, spec.block_hidden)
                yield from _linear(f"{inner}.out", tokens * spec.block_hidden, depth)
            if spec.ada_tokens:
                inner = f"policy.tokens.{owner}.{stage}"
                yield from _linear(f"{inner}.hidden", width, spec.token_hidden)
                yield from _linear(f"{inner}.out", spec.token_hidden, 1)


def _linear(name: str, inputs: int, outputs: int) -> NamedShapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _decoder(spec: AdaSpec, task: AdaTask) -> NamedShapes:
    d, prefix = spec.decoder_channels, f"decoders.{task.task}"
    for scale, width in enumerate(spec.backbone.feature_dims):
        first = f"{prefix}.scales.{scale}.0"
        yield from _residual_block(first, width, d)
        yield f"{first}.shortcut.conv.weight", (d, width, 1, 1)
        yield from _batch_norm(f"{first}.shortcut.norm", d)
        yield from _residual_block(f"{prefix}.scales.{scale}.1", d, d)
    yield f"{prefix}.mix.weight", (d, SCALES * d, 1, 1)
    yield f"{prefix}.mix.bias", (d,)
    yield from _batch_norm(f"{prefix}.norm", d)
    yield f"{prefix}.classify.weight", (task.outputs, d, 1, 1)
    yield f"{prefix}.classify.bias", (task.outputs,)


def _residual_block(name: str, inputs: int, outputs: int) -> NamedShapes:
    yield f"{name}.conv1.weight", (outputs, inputs, 3, 3)
    yield from _batch_norm(f"{name}.norm1", outputs)
    yield f"{name}.conv2.weight", (outputs, outputs, 3, 3)
    yield from _batch_norm(f"{name}.norm2", outputs)


def _batch_norm(name: str, width: int) -> NamedShapes:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
