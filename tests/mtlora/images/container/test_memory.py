"""What a decoder takes, measured in processes of their own, is not more than was said before."""

import os
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from testing.hostile_images import ANIM, drawn_png, frame, tiled, webp
from testing.image_variants import encoded, picture

SCRIPT = """
import io, resource, sys
from pathlib import Path
from PIL import Image
from mtlora.images.container import read_container

Image.init()
data = Path(sys.argv[1]).read_bytes()
container = read_container(data, 50_000_000)
small = container.data
peak = lambda: int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
before = peak()
Image.open(io.BytesIO(small)).load()
print(peak() - before, container.decoded_bytes)
"""
SIDE = 1500


def large(form: str, mode: str = "RGB", **options: object) -> bytes:
    return encoded(picture(mode, (SIDE, SIDE)), form, **options)


FILES = {
    "jpeg": lambda: large("JPEG"),
    "jpeg, progressive": lambda: large("JPEG", progressive=True, subsampling=0),
    "jpeg, four colours, progressive": lambda: large("JPEG", "CMYK", progressive=True),
    "png": lambda: large("PNG", "RGBA"),
    "png, 16 bits, interlaced": lambda: drawn_png((SIDE, SIDE), 16, 6, 8 * SIDE * SIDE * 2, 1),
    "gif": lambda: large("GIF", "P", transparency=3),
    "webp": lambda: large("WEBP"),
    "webp, lossless": lambda: large("WEBP", "RGBA", lossless=True),
    "webp, canvas": lambda: webp(2, (2000, 2000), ANIM, frame()),
    "bmp": lambda: large("BMP"),
    "tiff": lambda: large("TIFF"),
    "tiff, one strip": lambda: large("TIFF", compression="tiff_lzw", strip_size=2**30),
    "tiff, JPEG": lambda: large("TIFF", compression="jpeg", strip_size=2**30),
    "tiff, luminance": lambda: large("TIFF", "YCbCr", compression="tiff_lzw", strip_size=2**30),
    "tiff, floats": lambda: large("TIFF", "F", compression="zstd", strip_size=2**30),
    "tiff, a large tile": lambda: tiled((4096, 4096), 8, zlib.compress(bytes(4096 * 4096), 9)),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from Linux's /proc")
@pytest.mark.parametrize("name", FILES)
def test_decoding_takes_no_more_than_was_said(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(FILES[name]())
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
    )
    taken, said = map(int, result.stdout.split())
    assert taken <= said
    assert said < 3 * taken + 100_000_000  # and not beyond all measure
