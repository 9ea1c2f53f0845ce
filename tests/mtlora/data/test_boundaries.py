import numpy as np

from mtlora.data.boundaries import label_edges, thin


def test_a_thick_line_becomes_one_pixel_wide_and_stays_whole() -> None:
    mask = np.zeros((9, 20), dtype=bool)
    mask[3:6, 2:18] = True
    lines = thin(mask)
    assert (lines.sum(axis=0) <= 1).all()
    assert lines[:, 4:16].any(axis=0).all()
    assert not (lines & ~mask).any()


def test_a_ring_keeps_its_hole() -> None:
    mask = np.zeros((12, 12), dtype=bool)
    mask[1:11, 1:11] = True
    mask[4:8, 4:8] = False
    lines = thin(mask)
    reached = _flood(lines)
    assert not reached[5, 5]
    assert not (lines[:-1, :-1] & lines[1:, :-1] & lines[:-1, 1:] & lines[1:, 1:]).any()  # nowhere two wide


def test_lines_of_one_pixel_stay() -> None:
    cross = np.zeros((9, 9), dtype=bool)
    cross[4, :] = cross[:, 4] = True
    assert thin(cross).sum() >= 15


def test_a_map_of_one_class_has_no_edges() -> None:
    assert not label_edges(np.full((6, 7), 42, dtype=np.uint16)).any()


def _flood(walls: np.ndarray) -> np.ndarray:
    """What is reached from the corner by steps to the four neighbours."""
    reached = np.zeros_like(walls)
    reached[0, 0] = True
    for _ in range(walls.size):
        wide = np.pad(reached, 1)
        reached = (wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:] | reached) & ~walls
    return reached
