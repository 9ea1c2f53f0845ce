"""One image's answer, drawn in shares that any codec threads take; whoever ends last puts it together."""

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from app.answers.render import Made, Share, join, put_together, render
from app.answers.rendered import Rendered
from app.core.decoded_photo import Decoded
from app.core.errors import NonFiniteOutputError
from app.prediction.job import PredictionJob
from mtlora.maps.postprocessing import is_usable
from mtlora.vocabulary.stopping import Check
from mtlora.vocabulary.tasks import Task


class Drawing:
    """What the shares of one image have in common. Putting them together takes no trip of its own: nothing waits."""

    def __init__(
        self,
        job: PredictionJob,
        decoded: Decoded,
        logits: Mapping[Task, torch.Tensor],
        shares: Sequence[Share],
        check: Check,
        photo: NDArray[np.uint8] | None,
    ) -> None:
        """photo: for an overlay; check: raises where nobody needs the answer any more"""
        self._job = job
        self._decoded = decoded
        self._logits = logits
        self._shares = shares
        self._check = check
        self._photo = None if photo is None else lambda: photo
        self._drawn: dict[Share, Rendered] = {}
        self._lock = threading.Lock()

    def draw(self, share: Share) -> Made | None:
        """The answer if this was the last of its shares, else None; `NonFiniteOutputError` for a model gone wild."""
        self._check()
        job = self._job
        if not all(is_usable(self._logits[task]) for task in share.tasks):
            broken = [task.value for task, scores in self._logits.items() if not is_usable(scores)]
            raise NonFiniteOutputError(
                f"adapter set {job.ref} gives outputs that are not finite on this image: {', '.join(broken)}"
            )
        rendered = render(self._logits, self._decoded, job.spec, job.plan, share, photo=self._photo, check=self._check)
        with self._lock:
            self._drawn[share] = rendered
            if len(self._drawn) < len(self._shares):
                return None
            parts = [self._drawn.pop(one) for one in self._shares]
        whole = join(parts, job.tasks)
        parts.clear()  # what is put together is let go of on the way
        return put_together(whole, job.tasks, job.plan)
