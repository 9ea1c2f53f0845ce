"""Surface normals (angles in degrees) and depth (metres)."""

import numpy as np
from numpy.typing import NDArray

from mtlora.vocabulary.errors import DataError

WITHIN_DEG = (11.25, 22.5, 30.0)
_BINS_PER_DEG = 20


class NormalsErrors:
    """Angles between predicted and labelled normals over a whole set.

    The median comes from a histogram in steps of 0.05 degrees, so a set of any size takes constant memory.
    """

    def __init__(self) -> None:
        self.pixels = 0
        self._sum = self._square_sum = 0.0
        self._within = np.zeros(len(WITHIN_DEG), dtype=np.int64)
        self._histogram = np.zeros(180 * _BINS_PER_DEG + 1, dtype=np.int64)

    def update(self, prediction: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        """Add one image: prediction float32 [H, W, 3]; label uint8 [H, W, 3], (n + 1) * 127.5, all 0 = ignore."""
        if prediction.shape != label.shape:
            raise DataError(f"prediction {prediction.shape} and label {label.shape} differ in size")
        valid = label.any(axis=-1)
        wanted = label[valid].astype(np.float64) / 127.5 - 1
        found = prediction[valid].astype(np.float64)
        lengths = np.linalg.norm(wanted, axis=-1) * np.linalg.norm(found, axis=-1)
        cosine = (wanted * found).sum(axis=-1) / np.maximum(lengths, 1e-12)
        angles = np.degrees(np.arccos(cosine.clip(-1, 1)))
        self.pixels += angles.size
        self._sum += float(angles.sum())
        self._square_sum += float((angles**2).sum())
        self._within += np.array([(angles <= limit).sum() for limit in WITHIN_DEG])
        self._histogram += np.bincount((angles * _BINS_PER_DEG).astype(np.int64), minlength=len(self._histogram))

    def mean_deg(self) -> float:
        """Mean angle in degrees; NaN without valid pixels."""
        return self._sum / self.pixels if self.pixels else float("nan")

    def rmse_deg(self) -> float:
        """Root of the mean squared angle, in degrees."""
        return float(np.sqrt(self._square_sum / self.pixels)) if self.pixels else float("nan")

    def reference_rmse_deg(self) -> float:
        """What is published as `rmse`: the mean angle again."""
        return self.mean_deg()

    def median_deg(self) -> float:
        """Median angle in degrees, to 0.05."""
        if not self.pixels:
            return float("nan")
        return float((np.searchsorted(self._histogram.cumsum(), self.pixels / 2) + 0.5) / _BINS_PER_DEG)

    def within(self) -> dict[str, float]:
        """Share of the pixels within 11.25, 22.5 and 30 degrees."""
        shares = self._within / self.pixels if self.pixels else np.full(len(WITHIN_DEG), np.nan)
        return {f"within_{limit:g}_deg": float(share) for limit, share in zip(WITHIN_DEG, shares, strict=True)}


class DepthErrors:
    """Depth errors over a whole set, in metres."""

    def __init__(self) -> None:
        self.pixels = 0
        self._square_sum = self._absolute_sum = 0.0

    def update(self, prediction: NDArray[np.float32], label_m: NDArray[np.float32]) -> None:
        """Add one image; both float32 [H, W], metres; label 0 = ignore."""
        if prediction.shape != label_m.shape:
            raise DataError(f"prediction {prediction.shape} and label {label_m.shape} differ in size")
        valid = label_m > 0
        error = prediction[valid].astype(np.float64) - label_m[valid]
        self.pixels += error.size
        self._square_sum += float((error**2).sum())
        self._absolute_sum += float(np.abs(error).sum())

    def rmse_m(self) -> float:
        """Root mean square error in metres; NaN without valid pixels."""
        return float(np.sqrt(self._square_sum / self.pixels)) if self.pixels else float("nan")

    def mean_absolute_m(self) -> float:
        """Mean absolute error in metres."""
        return self._absolute_sum / self.pixels if self.pixels else float("nan")
