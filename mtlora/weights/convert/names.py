"""Tensor names of the published implementation, and the project's.

The one shift: there, the patch merging after stage i lies in `layers.{i}`; timm, and so we, keep it in `layers.{i+1}`.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from mtlora.vocabulary.encoder_shapes import BLOCK_LINEARS, MERGING_LINEAR
from mtlora.vocabulary.errors import TaskError
from mtlora.vocabulary.tasks import Task, task_of_reference_key

_DROPPED = re.compile(
    r"""backbone\.layers\.\d+\.blocks\.\d+\.(attn_mask|attn\.relative_position_index)  # rebuilt for any input side
      | decoders\.decoders\.\w+\.(.+\.)?num_batches_tracked                               # no output depends on it
      | decoders\.decoders\.\w+\.conv_seg\.(weight|bias)                                  # never used there
    """,
    re.VERBOSE,
)
_IN_BLOCK, _MERGED = "|".join(map(re.escape, BLOCK_LINEARS)), re.escape(MERGING_LINEAR)
_LINEARS = rf"(?P<linear>(?:layers\.\d+\.(?:blocks\.\d+\.(?:{_IN_BLOCK})|{_MERGED})))"
_PLAIN = re.compile(
    r"patch_embed\.(proj|norm)\.(weight|bias)"
    r"|layers\.\d+\.(blocks\.\d+\.(norm[12]\.(weight|bias)|attn\.relative_position_bias_table)"
    r"|downsample\.norm\.(weight|bias))"
)
_LINEAR_PARTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"{_LINEARS}\.(?:linear\.)?(?P<part>weight|bias)"), "{linear}.{part}"),
    (re.compile(rf"{_LINEARS}\.lora_shared_(?P<part>[AB])"), "{linear}.shared.lora_{part}"),
    (re.compile(rf"{_LINEARS}\.lora_shared_scale"), "{linear}.shared.scaling"),
    (re.compile(rf"{_LINEARS}\.lora_tasks_(?P<part>[AB])\.(?P<task>\w+)"), "{linear}.tasks.{task}.lora_{part}"),
    (re.compile(rf"{_LINEARS}\.lora_task_scale\.(?P<task>\w+)"), "{linear}.tasks.{task}.scaling"),
    (re.compile(rf"{_LINEARS}\.lora_norm\.(?P<part>weight|bias)"), "{linear}.norm.{part}"),
)
_MERGING = re.compile(r"^layers\.(\d+)\.downsample\.")
_PROJECTION = re.compile(r"downsampler\.(?P<task>\w+)\.downsample_(?P<scale>[0-3])\.weight")
_DECODER = re.compile(r"decoders\.decoders\.(?P<task>\w+?)\.(?P<rest>.+)")

_BN = r"(?P<part>weight|bias|running_mean|running_var)"
_WB = r"(?P<part>weight|bias)"
_DECODER_PARTS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        # hrnet
        (rf"last_layer\.0\.{_WB}", lambda m: f"mix.{m['part']}"),
        (rf"last_layer\.1\.{_BN}", lambda m: f"norm.{m['part']}"),
        (rf"last_layer\.3\.{_WB}", lambda m: f"classify.{m['part']}"),
        # segformer
        (rf"linear_c(?P<scale>[1-4])\.proj\.{_WB}", lambda m: f"linear.{int(m['scale']) - 1}.{m['part']}"),
        (r"linear_fuse\.conv\.weight", lambda _: "fuse.weight"),
        (rf"linear_fuse\.bn\.{_BN}", lambda m: f"norm.{m['part']}"),
        (rf"linear_pred\.{_WB}", lambda m: f"classify.{m['part']}"),
        # aspp: four convolutions and image pooling side by side, their sum, a refinement, the classifier
        (r"0\.convs\.(?P<branch>[0-3])\.0\.weight", lambda m: f"branches.{m['branch']}.conv.weight"),
        (rf"0\.convs\.(?P<branch>[0-3])\.1\.{_BN}", lambda m: f"branches.{m['branch']}.norm.{m['part']}"),
        (r"0\.convs\.4\.1\.weight", lambda _: "branches.4.conv.weight"),
        (rf"0\.convs\.4\.2\.{_BN}", lambda m: f"branches.4.norm.{m['part']}"),
        (r"0\.project\.0\.weight", lambda _: "project.conv.weight"),
        (rf"0\.project\.1\.{_BN}", lambda m: f"project.norm.{m['part']}"),
        (r"1\.weight", lambda _: "refine.conv.weight"),
        (rf"2\.{_BN}", lambda m: f"refine.norm.{m['part']}"),
        (rf"4\.{_WB}", lambda m: f"classify.{m['part']}"),
    )
)


class Renamed(NamedTuple):
    """What becomes of one tensor: `name` is ours, empty if it is dropped; `task` if it belongs to one."""

    name: str
    task: Task | None = None


def rename(key: str) -> Renamed | None:
    """Our name of a published tensor, an empty one if nothing needs it, None if nobody knows it."""
    if _DROPPED.fullmatch(key):
        return Renamed("")
    try:
        if key.startswith("backbone."):
            return _encoder(key.removeprefix("backbone."))
        if match := _PROJECTION.fullmatch(key):
            task = task_of_reference_key(match["task"])
            return Renamed(f"projections.{task}.{match['scale']}.weight", task)
        if match := _DECODER.fullmatch(key):
            return _decoder(task_of_reference_key(match["task"]), match["rest"])
    except TaskError:
        return None
    return None


def _encoder(key: str) -> Renamed | None:
    if _PLAIN.fullmatch(key):
        return Renamed(_shifted(key))
    for pattern, template in _LINEAR_PARTS:
        if match := pattern.fullmatch(key):
            groups = match.groupdict()
            task = task_of_reference_key(groups["task"]) if "task" in groups else None
            part = groups.get("part", "").lower()
            return Renamed(_shifted(template.format(linear=groups["linear"], part=part, task=task)), task)
    return None


def _shifted(key: str) -> str:
    return "backbone." + _MERGING.sub(lambda m: f"layers.{int(m[1]) + 1}.downsample.", key)


def _decoder(task: Task, rest: str) -> Renamed | None:
    for pattern, make in _DECODER_PARTS:
        if match := pattern.fullmatch(rest):
            return Renamed(f"decoders.{task}.{make(match)}", task)
    return None
