"""Tensor names of the published AdaMTL code, and ours."""

import re
from collections.abc import Callable

from mtlora.vocabulary.encoder_shapes import BLOCK_LINEARS, MERGING_LINEAR
from mtlora.vocabulary.errors import TaskError
from mtlora.vocabulary.tasks import task_of_reference_key

SIGN = re.compile(r"decoders\.\w+\.(fuse\.[0-3]\.2\.|segment\.0\.)")
"""A tensor's name that only AdaMTL's checkpoints have."""

_DROPPED = re.compile(
    r"""backbone\.layers\.\d+\.blocks\.\d+\.(attn_mask|attn\.relative_position_index)  # rebuilt from the image's side
      | decoders\.\w+\.(.+\.)?num_batches_tracked                                       # no output depends on it
    """,
    re.VERBOSE,
)
_LINEARS = "|".join(map(re.escape, BLOCK_LINEARS))
_ENCODER = re.compile(
    r"backbone\.(?:patch_embed\.(?:proj|norm)\.(?:weight|bias)"
    rf"|layers\.\d+\.blocks\.\d+\.(?:(?:norm[12]|{_LINEARS})\.(?:weight|bias)|attn\.relative_position_bias_table)"
    rf"|layers\.\d+\.(?:downsample\.norm\.(?:weight|bias)|{re.escape(MERGING_LINEAR)}\.weight))"
)
_MERGING = re.compile(r"layers\.(\d+)\.downsample\.")
_LAYERS = {"mlp": "hidden", "fc": "out"}
_TOKENS = re.compile(
    r"backbone\.layers\.(?P<stage>[0-3])\.tokens_select\.(?:(?P<task>\w+)\.)?(?P<layer>mlp|fc)\.(?P<part>weight|bias)"
)
_BLOCKS = re.compile(
    r"backbone\.layers_controllers\.(?:(?P<task>[a-z]\w*)\.)?(?P<stage>[0-3])\.(?P<layer>mlp|fc)\.(?P<part>weight|bias)"
)
_DECODER = re.compile(r"decoders\.(?P<task>\w+?)\.(?P<rest>(?:fuse|segment)\..+)")
_BN = r"(?P<part>weight|bias|running_mean|running_var)"
_SCALE = r"fuse\.(?P<scale>[0-3])\."
_DECODER_PARTS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (
            rf"{_SCALE}(?P<block>[23])\.conv(?P<number>[12])\.weight",
            lambda m: f"scales.{m['scale']}.{int(m['block']) - 2}.conv{m['number']}.weight",
        ),
        (
            rf"{_SCALE}(?P<block>[23])\.bn(?P<number>[12])\.{_BN}",
            lambda m: f"scales.{m['scale']}.{int(m['block']) - 2}.norm{m['number']}.{m['part']}",
        ),
        (rf"{_SCALE}2\.downsample\.0\.weight", lambda m: f"scales.{m['scale']}.0.shortcut.conv.weight"),
        (rf"{_SCALE}2\.downsample\.1\.{_BN}", lambda m: f"scales.{m['scale']}.0.shortcut.norm.{m['part']}"),
        (r"segment\.0\.(?P<part>weight|bias)", lambda m: f"mix.{m['part']}"),
        (rf"segment\.1\.{_BN}", lambda m: f"norm.{m['part']}"),
        (r"segment\.3\.(?P<part>weight|bias)", lambda m: f"classify.{m['part']}"),
    )
)


def rename(key: str) -> str | None:
    """Our name of a published tensor, an empty one if nothing needs it, None if nobody knows it."""
    if _DROPPED.fullmatch(key):
        return ""
    if _ENCODER.fullmatch(key):
        # the one shift: there, the patch merging after a stage lies in the stage; timm, and so we, keep it in the next
        return _MERGING.sub(lambda m: f"layers.{int(m[1]) + 1}.downsample.", key)
    try:
        if match := _TOKENS.fullmatch(key):
            return _selector("tokens", match)
        if match := _BLOCKS.fullmatch(key):
            return _selector("blocks", match)
        if match := _DECODER.fullmatch(key):
            return _decoder(match)
    except TaskError:
        return None
    return None


def _selector(kind: str, match: re.Match[str]) -> str:
    owner = task_of_reference_key(match["task"]).value if match["task"] else "shared"
    return f"policy.{kind}.{owner}.{match['stage']}.{_LAYERS[match['layer']]}.{match['part']}"


def _decoder(match: re.Match[str]) -> str | None:
    task = task_of_reference_key(match["task"])
    for pattern, make in _DECODER_PARTS:
        if found := pattern.fullmatch(match["rest"]):
            return f"decoders.{task}.{make(found)}"
    return None
