"""Names and shapes of the three decoders (paper section 3.4), by formula: see `layout`."""

from collections.abc import Iterator

from mtlora.vocabulary.spec import AdapterSpec, DecoderKind, TaskSpec

NamedShapes = Iterator[tuple[str, tuple[int, ...]]]

ASPP_CHANNELS = 256
_ASPP_DILATED_BRANCHES = (1, 2, 3)
_ASPP_BRANCHES = 5  # 1x1, three dilated 3x3, image pooling


def decoder_shapes(spec: AdapterSpec, task: TaskSpec) -> NamedShapes:
    """Tensors of one task's decoder, all below `decoders.{task}.`: (name, shape)."""
    inner = {DecoderKind.HRNET: _hrnet, DecoderKind.SEGFORMER: _segformer, DecoderKind.ASPP: _aspp}[task.decoder]
    for name, shape in inner(spec, task.outputs):
        yield f"decoders.{task.task}.{name}", shape


def _hrnet(spec: AdapterSpec, outputs: int) -> NamedShapes:
    k = sum(spec.decoder_channels)
    yield "mix.weight", (4 * k, k, 1, 1)
    yield "mix.bias", (4 * k,)
    yield from _batch_norm("norm", 4 * k)
    yield from _classify(outputs, 4 * k)


def _segformer(spec: AdapterSpec, outputs: int) -> NamedShapes:
    e = spec.segformer_channels
    for scale, channels in enumerate(spec.decoder_channels):
        yield f"linear.{scale}.weight", (e, channels)
        yield f"linear.{scale}.bias", (e,)
    yield "fuse.weight", (e, 4 * e, 1, 1)
    yield from _batch_norm("norm", e)
    yield from _classify(outputs, e)


def _aspp(spec: AdapterSpec, outputs: int) -> NamedShapes:
    k, width = sum(spec.decoder_channels), ASPP_CHANNELS
    for branch in range(_ASPP_BRANCHES):
        side = 3 if branch in _ASPP_DILATED_BRANCHES else 1
        yield f"branches.{branch}.conv.weight", (width, k, side, side)
        yield from _batch_norm(f"branches.{branch}.norm", width)
    yield "project.conv.weight", (width, _ASPP_BRANCHES * width, 1, 1)
    yield from _batch_norm("project.norm", width)
    yield "refine.conv.weight", (width, width, 3, 3)
    yield from _batch_norm("refine.norm", width)
    yield from _classify(outputs, width)


def _batch_norm(name: str, width: int) -> NamedShapes:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)


def _classify(outputs: int, inp: int) -> NamedShapes:
    yield "classify.weight", (outputs, inp, 1, 1)
    yield "classify.bias", (outputs,)
