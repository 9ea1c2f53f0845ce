import math

import numpy as np
import pytest

from mtlora.metrics.geometry import DepthErrors, NormalsErrors
from mtlora.vocabulary.errors import DataError

FACING = (128, 128, 0)  # about (0, 0, -1)


def errors_at(*angles_deg: float) -> NormalsErrors:
    """Predictions tilted away from a facing wall by these angles."""
    a = np.radians(angles_deg)
    found = np.stack([np.sin(a), np.zeros_like(a), -np.cos(a)], axis=-1)[None].astype(np.float32)
    label = np.full((1, len(angles_deg), 3), FACING, dtype=np.uint8)
    errors = NormalsErrors()
    errors.update(found * 3, label)  # lengths do not matter
    return errors


def test_angles_by_hand() -> None:
    errors = errors_at(0, 10, 20, 50)
    assert errors.mean_deg() == pytest.approx(20, abs=0.4)  # 8-bit labels are off by up to 0.3
    assert errors.rmse_deg() == pytest.approx(math.sqrt((100 + 400 + 2500) / 4), abs=0.4)
    assert errors.reference_rmse_deg() == errors.mean_deg()
    assert errors.within() == {"within_11.25_deg": 0.5, "within_22.5_deg": 0.75, "within_30_deg": 0.75}


def test_median_of_an_odd_count() -> None:
    assert errors_at(5, 30, 170).median_deg() == pytest.approx(30, abs=0.5)


def test_black_is_ignored() -> None:
    errors = NormalsErrors()
    errors.update(np.ones((1, 2, 3), np.float32), np.zeros((1, 2, 3), np.uint8))
    assert errors.pixels == 0
    assert all(math.isnan(v) for v in (errors.mean_deg(), errors.median_deg(), errors.rmse_deg()))


def test_opposite_normals_are_180_degrees_apart() -> None:
    assert errors_at(180).median_deg() == pytest.approx(180, abs=0.5)


def test_depth_by_hand() -> None:
    errors = DepthErrors()
    errors.update(np.array([[1.0, 5.0, 9.0]], np.float32), np.array([[2.0, 2.0, 0.0]], np.float32))
    assert errors.rmse_m() == pytest.approx(math.sqrt((1 + 9) / 2))
    assert errors.mean_absolute_m() == pytest.approx(2.0)
    with pytest.raises(DataError, match="differ in size"):
        errors.update(np.zeros((1, 2), np.float32), np.zeros((2, 1), np.float32))
