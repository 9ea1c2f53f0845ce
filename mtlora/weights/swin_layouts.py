"""Names of a Swin encoder's tensors as five libraries write them, turned into timm's.

Official and timm's own; Transformers, whose query, key and value are apart; torchvision; and OpenMMLab, whose patch
merging has its inputs in another order.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_WB = r"(?P<part>weight|bias)"
_BLOCK = r"(?P<stage>\d+)\.blocks\.(?P<block>\d+)\."
_QKV = ("query", "key", "value")
_BUFFERS = r"|(?:.+\.)?(?:attn_mask|relative_position_index|mask_token)"  # rebuilt, or used in pretraining only

Rename = Callable[[re.Match[str]], str]


@dataclass(frozen=True, slots=True)
class Layout:
    """How one library names an encoder's tensors.

    sign:    a name that only this layout has
    dropped: names that no output of the encoder's stages depends on
    rules:   pattern and timm's name; a merging's stage is that of the stage before it
    """

    name: str
    sign: str
    dropped: re.Pattern[str]
    rules: tuple[tuple[re.Pattern[str], Rename], ...]
    unfolded: bool = False

    def renamed(self, key: str) -> str:
        """timm's name; empty if nothing needs the tensor; the name itself if this layout does not know it."""
        if self.dropped.fullmatch(key):
            return ""
        for pattern, make in self.rules:
            if match := pattern.fullmatch(key):
                return make(match)
        return key


def _rules(*pairs: tuple[str, Rename]) -> tuple[tuple[re.Pattern[str], Rename], ...]:
    return tuple((re.compile(pattern), make) for pattern, make in pairs)


def _in_block(name: str) -> Rename:
    return lambda m: f"layers.{m['stage']}.blocks.{m['block']}.{name}.{m['part']}"


def _table(m: re.Match[str]) -> str:
    return f"layers.{m['stage']}.blocks.{m['block']}.attn.relative_position_bias_table"


def _merging(m: re.Match[str]) -> str:
    return f"layers.{int(m['stage']) + 1}.downsample.{m['what']}.{m['part']}"


def _embedding(name: str) -> Rename:
    return lambda m: f"patch_embed.{name}.{m['part']}"


_MERGED = rf"(?P<what>norm|reduction)\.{_WB}"

_OFFICIAL = Layout(
    "the official code",
    "layers.0.downsample.reduction.weight",
    re.compile(r"(?:norm[0-3]?|head)\..+" + _BUFFERS),
    _rules((rf"layers\.(?P<stage>\d+)\.downsample\.{_MERGED}", _merging)),
)
_TIMM = Layout(
    "timm",
    "patch_embed.proj.weight",
    re.compile(r"(?:norm[0-3]?|head)\..+" + _BUFFERS),
    _rules((r"layers_(?P<rest>\d+\..+)", lambda m: f"layers.{m['rest']}")),  # of timm's features_only
)
_TRANSFORMERS = Layout(
    "Transformers",
    "embeddings.patch_embeddings.projection.weight",
    re.compile(r"(?:layernorm|pooler|classifier|hidden_states_norms)\..+" + _BUFFERS),
    _rules(
        (rf"embeddings\.patch_embeddings\.projection\.{_WB}", _embedding("proj")),
        (rf"embeddings\.norm\.{_WB}", _embedding("norm")),
        (rf"encoder\.layers\.(?P<stage>\d+)\.downsample\.{_MERGED}", _merging),
        (rf"encoder\.layers\.{_BLOCK}layernorm_before\.{_WB}", _in_block("norm1")),
        (rf"encoder\.layers\.{_BLOCK}layernorm_after\.{_WB}", _in_block("norm2")),
        (rf"encoder\.layers\.{_BLOCK}attention\.self\.relative_position_bias_table", _table),
        (
            rf"encoder\.layers\.{_BLOCK}attention\.self\.(?P<which>{'|'.join(_QKV)})\.{_WB}",
            lambda m: f"layers.{m['stage']}.blocks.{m['block']}.attn.qkv.{m['part']}/{_QKV.index(m['which'])}",
        ),
        (rf"encoder\.layers\.{_BLOCK}attention\.output\.dense\.{_WB}", _in_block("attn.proj")),
        (rf"encoder\.layers\.{_BLOCK}intermediate\.dense\.{_WB}", _in_block("mlp.fc1")),
        (rf"encoder\.layers\.{_BLOCK}output\.dense\.{_WB}", _in_block("mlp.fc2")),
    ),
)
_STAGE_OF = {"1": 0, "3": 1, "5": 2, "7": 3}  # torchvision numbers stages and the mergings between them in one list
_MERGING_OF = {"2": 1, "4": 2, "6": 3}


def _in_vision_block(name: str) -> Rename:
    return lambda m: f"layers.{_STAGE_OF[m['at']]}.blocks.{m['block']}.{name}"


_VISION_BLOCK = r"features\.(?P<at>[1357])\.(?P<block>\d+)\."
_TORCHVISION = Layout(
    "torchvision",
    "features.1.0.attn.relative_position_bias_table",
    re.compile(r"(?:norm|head)\..+" + _BUFFERS),
    _rules(
        (rf"features\.0\.0\.{_WB}", _embedding("proj")),
        (rf"features\.0\.2\.{_WB}", _embedding("norm")),
        (
            rf"features\.(?P<at>[246])\.{_MERGED}",
            lambda m: f"layers.{_MERGING_OF[m['at']]}.downsample.{m['what']}.{m['part']}",
        ),
        (rf"{_VISION_BLOCK}attn\.relative_position_bias_table", _in_vision_block("attn.relative_position_bias_table")),
        *(
            (rf"{_VISION_BLOCK}{re.escape(theirs)}\.{part}", _in_vision_block(f"{ours}.{part}"))
            for theirs, ours in (
                *((same, same) for same in ("norm1", "norm2", "attn.qkv", "attn.proj")),
                *(("mlp.0", "mlp.fc1"), ("mlp.3", "mlp.fc2")),
            )
            for part in ("weight", "bias")
        ),
    ),
)
_OPENMMLAB = Layout(
    "OpenMMLab",
    "patch_embed.projection.weight",
    re.compile(r"(?:norm[0-3]?|head)\..+" + _BUFFERS),
    _rules(
        (rf"patch_embed\.projection\.{_WB}", _embedding("proj")),
        (rf"stages\.(?P<stage>\d+)\.downsample\.{_MERGED}", _merging),
        (rf"stages\.{_BLOCK}attn\.w_msa\.relative_position_bias_table", _table),
        (rf"stages\.{_BLOCK}attn\.w_msa\.(?P<which>qkv|proj)\.{_WB}", lambda m: _in_block(f"attn.{m['which']}")(m)),
        (rf"stages\.{_BLOCK}(?P<norm>norm[12])\.{_WB}", lambda m: _in_block(m["norm"])(m)),
        (rf"stages\.{_BLOCK}ffn\.layers\.0\.0\.{_WB}", _in_block("mlp.fc1")),
        (rf"stages\.{_BLOCK}ffn\.layers\.1\.{_WB}", _in_block("mlp.fc2")),
    ),
    unfolded=True,
)
LAYOUTS = (_TRANSFORMERS, _OPENMMLAB, _TORCHVISION, _OFFICIAL, _TIMM)


def layout_of(keys: Iterable[str]) -> Layout:
    """The layout that an encoder's tensors are named in; timm's if no other is told by them."""
    names = set(keys)
    return next((layout for layout in LAYOUTS if layout.sign in names), _TIMM)


def other_layout(keys: Iterable[str]) -> str:
    """Name of the layout, if it is another than timm's and so must be turned first; else empty."""
    layout = layout_of(keys)
    return "" if layout is _TIMM else layout.name


def wanted_names(layout: Layout, keys: Iterable[str]) -> dict[str, str]:
    """{name in the file: timm's} of what an encoder needs; thirds of a projection end in `/0`, `/1` and `/2`."""
    return {key: name for key in keys if (name := layout.renamed(key))}


def in_timm_layout(layout: Layout, names: Mapping[str, str], tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The tensors under timm's names: thirds of a projection put together, inputs of patch merging in timm's order."""
    import torch  # names alone are read without it

    found: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, third = names[key].partition("/")
        if third:
            thirds.setdefault(name, {})[third] = tensor
        else:
            found[name] = _in_order(name, tensor) if layout.unfolded else tensor
    for name, parts in thirds.items():
        if len(parts) == len(_QKV):  # else it is missing, and said so by the check of the whole encoder
            found[name] = torch.cat([parts[third] for third in sorted(parts)])
    return found


def _in_order(name: str, tensor: "Tensor") -> "Tensor":
    """A patch merging's norm or linear that reads what `unfold` gives: channel by channel, in each row by row.

    timm reads the four neighbours one after the other, column by column.
    """
    if ".downsample." not in name or tensor.shape[-1] % 4:
        return tensor
    whole = tensor.shape
    by_channel = tensor.reshape(*whole[:-1], whole[-1] // 4, 2, 2)  # …, channel, row, column
    axes = by_channel.ndim
    return by_channel.permute(*range(axes - 3), axes - 1, axes - 2, axes - 3).reshape(whole)
