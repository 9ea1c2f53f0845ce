"""Operations on maps: from logits to what is shown.

As in `ops`: native code where that is built and fits, plain torch otherwise; no gradients.
"""

import torch
from torch import Tensor

from mtlora.kernels import kernels
from mtlora.kernels.interface import MAX_CLASSES
from mtlora.ops import torch_ops
from mtlora.ops.operands import checked, native_for, want, want_size
from mtlora.vocabulary.errors import MTLoRAError


def upsample_argmax(logits: Tensor, height: int, width: int) -> Tensor:
    """Class map of bilinearly enlarged scores (align_corners=False), without K maps at that size; of equals the lowest.

    logits:  float [K, h, w], K from 1 to 255
    returns: uint8 [height, width]
    """
    want(
        logits.ndim == 3 and 1 <= logits.shape[0] <= MAX_CLASSES and logits.numel() > 0,
        "logits",
        f"[1 to {MAX_CLASSES}, h, w]",
        logits,
    )
    want_size(height, width)
    native = native_for(logits)
    if native is None:
        return torch_ops.upsample_argmax(logits, height, width)
    logits, out = logits.contiguous(), logits.new_empty(height, width, dtype=torch.uint8)
    h, w = logits.shape[-2:]
    failed = native.upsample_argmax(
        logits.data_ptr(), out.data_ptr(), len(logits), h, w, height, width, torch.get_num_threads()
    )
    return checked(out, failed)


def decide_classes(
    logits: Tensor,
    decided: Tensor,
    height: int,
    width: int,
    top: int = 0,
    bottom: int | None = None,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Rows of a class map of scores enlarged twice, to the model's size and to the photo's, each time bilinearly.

    As if K maps were made at the photo's size, but only pixels between neighbours of several classes are looked at.

    logits:  float [K, h, w], K from 1 to 255
    decided: uint8 [rows, columns], what `upsample_argmax` makes of them at the model's size
    top, bottom: as of `quantise_normals`
    out:     where they are written, contiguous on the CPU; None: a tensor of its own
    returns: uint8 [bottom - top, width], and int64 [256]: how many pixels each class has in these rows
    """
    is_scores = logits.ndim == 3 and 1 <= logits.shape[0] <= MAX_CLASSES and logits.numel() > 0
    want(is_scores, "logits", f"[1 to {MAX_CLASSES}, h, w]", logits)
    want(decided.ndim == 2 and decided.numel() > 0, "decided", "[rows, columns]", decided)
    top, bottom = _wanted_rows(height, width, top, bottom)
    if out is not None:
        is_room = out.shape == (bottom - top, width) and out.dtype == torch.uint8 and out.is_contiguous()
        want(is_room, "out", f"contiguous uint8 [{bottom - top}, {width}]", out)
    native = native_for(logits)
    if native is None or decided.device.type != "cpu":
        rows = torch_ops.decide_classes(logits, (decided.shape[0], decided.shape[1]), height, width, top, bottom)
        rows = rows if out is None else out.copy_(rows)
        return rows, rows.flatten().bincount(minlength=MAX_CLASSES + 1)
    logits, decided, counts = logits.contiguous(), decided.contiguous(), torch.zeros(MAX_CLASSES + 1, dtype=torch.int64)
    out = decided.new_empty(bottom - top, width) if out is None else out
    sizes = (*logits.shape, *decided.shape, height, width, top, bottom)
    pointers = (logits.data_ptr(), decided.data_ptr(), out.data_ptr(), counts.data_ptr())
    failed = native.decide_classes(*pointers, *sizes, torch.get_num_threads())
    return checked(out, failed), counts


def unit_normals(normals: Tensor, height: int, width: int) -> Tensor:
    """Vectors enlarged bilinearly and made unit length.

    normals: float [3, h, w], of any length
    returns: float [3, height, width]
    """
    want(normals.ndim == 3 and normals.shape[0] == 3 and normals.numel() > 0, "normals", "[3, h, w]", normals)
    want_size(height, width)
    native = native_for(normals)
    if native is None:
        return torch_ops.unit_normals(normals, height, width)
    normals, out = normals.contiguous(), normals.new_empty(3, height, width)
    h, w = normals.shape[-2:]
    failed = native.unit_normals(normals.data_ptr(), out.data_ptr(), h, w, height, width, torch.get_num_threads())
    return checked(out, failed)


def enlarge_sigmoid(logits: Tensor, height: int, width: int) -> Tensor:
    """Probabilities of bilinearly enlarged scores.

    logits:  float [h, w]
    returns: float [height, width], 0..1
    """
    want(logits.ndim == 2 and logits.numel() > 0, "logits", "[h, w]", logits)
    want_size(height, width)
    native = native_for(logits)
    if native is None:
        return torch_ops.enlarge_sigmoid(logits, height, width)
    logits, out = logits.contiguous(), logits.new_empty(height, width)
    h, w = logits.shape
    failed = native.enlarge_sigmoid(logits.data_ptr(), out.data_ptr(), h, w, height, width, torch.get_num_threads())
    return checked(out, failed)


def enlarge_classes(class_map: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """A class map at another size, every pixel that of the nearest centre, and how many pixels each class has there.

    class_map: uint8 [h, w]
    returns:   uint8 [height, width], int64 [256]
    """
    want(class_map.ndim == 2 and class_map.numel() > 0, "class_map", "[h, w]", class_map)
    want_size(height, width)
    native = kernels()
    if native is None or class_map.device.type != "cpu":
        return torch_ops.enlarge_classes(class_map, height, width)
    class_map, out = class_map.contiguous(), class_map.new_empty(height, width)
    counts = torch.empty(MAX_CLASSES + 1, dtype=torch.int64)
    native.enlarge_classes(
        class_map.data_ptr(), out.data_ptr(), counts.data_ptr(), *class_map.shape, height, width
    )  # fmt: skip
    return out, counts


def quantise_normals(normals: Tensor, height: int, width: int, top: int = 0, bottom: int | None = None) -> Tensor:
    """Vectors enlarged bilinearly, made unit length and turned to colours: round((n + 1) · 127.5).

    normals: float [3, h, w], of any length
    top, bottom: the first row to make, and the one behind the last; without them all
    returns: uint8 [bottom - top, width, 3]
    """
    want(normals.ndim == 3 and normals.shape[0] == 3 and normals.numel() > 0, "normals", "[3, h, w]", normals)
    top, bottom = _wanted_rows(height, width, top, bottom)
    native = native_for(normals)
    if native is None:
        return torch_ops.quantise_normals(normals, height, width, top, bottom)
    normals, out = normals.contiguous(), normals.new_empty(bottom - top, width, 3, dtype=torch.uint8)
    sizes, threads = (*normals.shape[-2:], height, width, top, bottom), torch.get_num_threads()
    return checked(out, native.quantise_normals(normals.data_ptr(), out.data_ptr(), *sizes, threads))


def saliency_to_gray(probability: Tensor, height: int, width: int, top: int = 0, bottom: int | None = None) -> Tensor:
    """Probabilities enlarged bilinearly and turned to grey: round(255 p).

    probability: float [h, w], 0..1
    top, bottom: as of `quantise_normals`
    returns:     uint8 [bottom - top, width]
    """
    want(probability.ndim == 2 and probability.numel() > 0, "probability", "[h, w]", probability)
    top, bottom = _wanted_rows(height, width, top, bottom)
    native = native_for(probability)
    if native is None:
        return torch_ops.saliency_to_gray(probability, height, width, top, bottom)
    probability, out = probability.contiguous(), probability.new_empty(bottom - top, width, dtype=torch.uint8)
    sizes, threads = (*probability.shape, height, width, top, bottom), torch.get_num_threads()
    return checked(out, native.saliency_to_gray(probability.data_ptr(), out.data_ptr(), *sizes, threads))


def _wanted_rows(height: int, width: int, top: int, bottom: int | None) -> tuple[int, int]:
    want_size(height, width)
    bottom = height if bottom is None else bottom
    if not 0 <= top < bottom <= height:
        raise MTLoRAError(f"rows must be some of 0 to {height}, got {top} to {bottom}")
    return top, bottom
