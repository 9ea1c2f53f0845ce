import base64
import io

import numpy as np
from PIL import Image

from mtlora.training.report.inline import inlined


def decoded(address: str) -> Image.Image:
    head, _, body = address.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def noise(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_pictures_keep_their_size_where_there_is_room() -> None:
    assert decoded(inlined([noise(64)])[0]).size == (64, 64)
    assert inlined([]) == []


def test_all_together_stay_within_the_limit() -> None:
    addresses = inlined([noise(256)] * 4, limit=40_000)
    assert sum(map(len, addresses)) <= 40_000
    assert all(decoded(address).width in (64, 128, 256) for address in addresses)
