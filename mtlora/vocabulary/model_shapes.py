"""The names and shapes of a model's tensors, from its `AdapterSpec` alone: no model is built, no torch imported.

This is what makes checking an uploaded file cheap: a header is compared with `adapter_shapes(spec)` before a byte of a
tensor is read. A test holds these formulas equal to the built model for random specs.
Names: paper sections 3.2 (TA- and TS-LoRA pairs), 3.3 (task streams), 3.4 (decoders); the backbone's are timm's.
"""

from collections.abc import Iterator
from math import prod

from mtlora.vocabulary.adapted_linears import adapted_linears
from mtlora.vocabulary.decoder_shapes import decoder_shapes
from mtlora.vocabulary.encoder_shapes import encoder_shapes, table_names
from mtlora.vocabulary.spec import AdapterSpec, TaskSpec
from mtlora.vocabulary.trainable import ParameterCounts, is_trainable

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
NamedShapes = Iterator[tuple[str, Shape]]

_STATISTICS = (".running_mean", ".running_var")


def model_shapes(spec: AdapterSpec) -> Shapes:
    """Every tensor of the model of `spec`, frozen ones and BatchNorm statistics included: {name: shape}."""
    shapes: Shapes = {f"backbone.{name}": shape for name, shape in encoder_shapes(spec.backbone).items()}
    shapes.update(_position_tables(spec))
    for linear in adapted_linears(spec):
        shapes.update(linear.tensors())
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


def _projections(spec: AdapterSpec, task: TaskSpec) -> NamedShapes:
    """The 1x1 convolutions, without bias, between a task's four features and its decoder."""
    for scale, (out, inp) in enumerate(zip(spec.decoder_channels, spec.backbone.feature_dims, strict=True)):
        yield f"projections.{task.task}.{scale}.weight", (out, inp, 1, 1)
