from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlora.data.headers import header_size, open_image
from mtlora.data.read import read_classes
from mtlora.vocabulary.errors import DataError
from testing.label_files import grey_png


def test_sizes_without_reading_all(tmp_path: Path) -> None:
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.zeros((6, 8, 3), np.float32))
    assert header_size(tmp_path / "a.png") == header_size(tmp_path / "a.npy") == (8, 6)
    assert header_size(tmp_path / "a.mat") is None


@pytest.mark.parametrize("name", ["a.png", "a.npy"])
def test_torn_files_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"torn")
    with pytest.raises(DataError, match=f"{name} cannot be read as an"):
        header_size(tmp_path / name)


def test_a_jpeg_under_another_name_is_no_label(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 1).save(tmp_path / "a.png", "JPEG")
    with pytest.raises(DataError, match="a JPEG file under another name"):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_indices_of_few_bits_keep_their_values(tmp_path: Path, bits: int) -> None:
    """Decoders stretch grey of 2 and 4 bits to 0..255; an index is an index."""
    indices = (np.arange(64).reshape(8, 8) % 2**bits).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(grey_png(indices, bits))
    np.testing.assert_array_equal(read_classes(tmp_path / "a.png"), indices)
