"""What a form of answer is given, and what is known of the form: one of these for each, in `forms`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from app.answers.form import Pieces
from app.answers.plan import Extent, RenderPlan
from mtlora.maps.postprocessing import PhotoMap
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import Decode

CLASSES = frozenset({Decode.ARGMAX})
MASKS = frozenset({Decode.ARGMAX, Decode.SIGMOID})
ANY = frozenset(Decode)


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One task's map of one photo.

    coarse: float32 [K, h, w], the decoder's logits that `source` is made of
    photo:  gives the upright photo, uint8 [H, W, 3], to a form that says it needs it
    """

    source: PhotoMap
    coarse: torch.Tensor
    spec: TaskSpec
    plan: RenderPlan
    photo: Callable[[], NDArray[np.uint8]] | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """A form of answer.

    draw:  the whole answer of one task; None for forms that say more, which `render` makes
    kinds: of maps that it can carry
    peak_bytes: memory that `draw` takes beside some bands, an upper estimate
    """

    media: str
    draw: Callable[[Subject], Pieces] | None = None
    kinds: frozenset[Decode] = ANY
    needs_photo: bool = False
    peak_bytes: Callable[[Extent, RenderPlan], int] = lambda _extent, _plan: 0
