"""HEIC and AVIF: the first picture, its tiles and its transparency, in a file of their own.

Thumbnails, depth, films and whatever else phones put beside them are left out, and so are turns, which are ours to do.
"""

import struct
from dataclasses import dataclass, field
from itertools import accumulate

from mtlora.images.container.bounds import Container, broken, check_size, decoded_bytes, refuse_costly
from mtlora.images.container.boxes import Fields, box, full_box
from mtlora.images.container.coded_sizes import av1_sizes, hevc_sizes
from mtlora.images.container.heif_items import Item, Items, read_items
from mtlora.images.container.profile import from_codes, from_icc
from mtlora.vocabulary.errors import ImageFormatError

MAX_TILES = 1024  # a picture of 48 megapixels in tiles of 512 px has some 200
MAX_TILED_PIXELS = 2  # as a multiple of the largest photo: tiles reach beyond the picture's edge
_PADDING = 64  # pixels of a side that are coded beyond it
_CODED = {b"hvc1": (b"hvcC", hevc_sizes), b"av01": (b"av1C", av1_sizes)}
_NAMES = {
    b"jpeg": "a JPEG within a HEIF",
    b"j2k1": "a JPEG 2000 within a HEIF",
    b"vvc1": "a VVC picture",
    b"avc1": "an AVC picture",
    b"unci": "an uncompressed HEIF",
}
_KEPT = {b"ispe", b"pixi", b"hvcC", b"av1C", b"auxC", b"clap"}
_MUST, _ESSENTIAL = {b"hvcC", b"av1C", b"clap"}, 0x8000
_MAX_PROPERTIES = 64  # of one item
_ALPHA = {b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1"}
_BRANDS = {b"hvc1": b"heic", b"av01": b"avif"}
_COPIES = 14  # bytes a pixel beside the picture: planes, references, what is handed over; 7 were seen
_TURN, _MIRRORS = (1, 3, 0, 2), ((2, 3, 0, 1), (1, 0, 3, 2))  # corners after a quarter against the clock, a mirror
_MAX_TURNS = 256  # properties that are looked at
_Corners = tuple[int, int, int, int]
_HELD = {
    (0, 1, 2, 3): 1,
    (1, 0, 3, 2): 2,
    (3, 2, 1, 0): 3,
    (2, 3, 0, 1): 4,
    (0, 2, 1, 3): 5,
    (2, 0, 3, 1): 6,
    (3, 1, 2, 0): 7,
    (1, 3, 0, 2): 8,
}
"""Where the stored corners (top left, top right, bottom left, bottom right) are seen: orientation of EXIF."""


@dataclass(slots=True)
class _File:
    """The file that is made."""

    items: Items
    max_pixels: int
    coding: bytes = b""
    kept: list[tuple[int, Item, bytes]] = field(default_factory=list)
    references: list[tuple[bytes, int, list[int]]] = field(default_factory=list)
    pixels: int = 0  # coded

    def take(self, number: int, *, may_have_tiles: bool) -> None:
        """An item with all that it is made of."""
        item = self.items.item(number)
        if may_have_tiles and item.kind == b"grid":
            self._take_tiles(number, item)
            return
        if item.kind not in _CODED:
            name = _NAMES.get(item.kind, f"a HEIF picture of kind {item.kind.decode('latin-1')!r}")
            raise ImageFormatError(f"this is {name}, not an image that is read: export it as JPEG or PNG")
        if self.coding not in {b"", item.kind}:
            raise broken("a HEIC or AVIF of two codings")
        self.coding = item.kind
        content = self.items.content(item)
        self._check_coded(item, content)
        self.kept.append((number, item, content))

    def _take_tiles(self, number: int, item: Item) -> None:
        content, tiles = self.items.content(item), self.items.named_by(b"dimg", number)
        if len(content) < 8:
            raise broken(f"a HEIC or AVIF of tiles with {len(content)} bytes about them")
        wanted = (content[2] + 1) * (content[3] + 1)
        if wanted > MAX_TILES:
            refuse_costly(f"{wanted} tiles of a HEIC or AVIF", MAX_TILES)
        if len(tiles) != wanted:
            raise broken(f"{len(tiles)} of {wanted} tiles of a HEIC or AVIF")
        form = ">II" if content[1] & 1 else ">HH"
        width, height = struct.unpack_from(form, content.ljust(12, b"\0"), 4)
        check_size(width, height, self.max_pixels)
        self.kept.append((number, item, content))
        self.references.append((b"dimg", number, tiles))
        for tile in dict.fromkeys(tiles):
            self.take(tile, may_have_tiles=False)

    def _check_coded(self, item: Item, content: bytes) -> None:
        width, height = size_of(item)
        check_size(width, height, MAX_TILED_PIXELS * self.max_pixels)
        self.pixels += width * height
        if self.pixels > 2 * MAX_TILED_PIXELS * self.max_pixels:  # colours and transparency
            refuse_costly(f"HEIC or AVIF tiles of {self.pixels} pixels", 2 * MAX_TILED_PIXELS * self.max_pixels)
        kind, sizes_of = _CODED[item.kind]
        config = item.property(kind)
        if config is None:
            raise broken(f"a HEIC or AVIF picture without its {kind.decode()}")
        for columns, rows in sizes_of(config, content):
            if columns > width + _PADDING or rows > height + _PADDING:
                raise broken(f"a picture of {columns} x {rows} pixels in a file that says {width} x {height}")


def read_heif(data: bytes, max_pixels: int) -> Container:
    """The first picture; `ImageFormatError` if it is coded as nothing that is known."""
    items = read_items(data)
    primary = items.item(items.primary)
    width, height = size_of(primary)
    check_size(width, height, max_pixels)
    made = _File(items, max_pixels)
    made.take(items.primary, may_have_tiles=True)
    for number in items.naming(b"auxl", items.primary)[:1]:
        if _is_alpha(items.item(number)):
            made.take(number, may_have_tiles=True)
            made.references.append((b"auxl", number, [items.primary]))
    extra = _COPIES * max(made.pixels, width * height)
    return Container(
        _written(made),
        _orientation(primary),
        width,
        height,
        decoded_bytes(width, height, extra),
        profile=_profile(primary),
    )


def size_of(item: Item) -> tuple[int, int]:
    """Width and height that a file says of a picture."""
    body = item.property(b"ispe")
    if body is None:
        raise broken("a HEIC or AVIF picture without its size")
    fields = Fields(body)
    fields.version()
    return fields.number(4), fields.number(4)


def _is_alpha(item: Item) -> bool:
    about = item.property(b"auxC")
    return about is not None and bytes(about[4:]).split(b"\0")[0] in _ALPHA


def _orientation(item: Item) -> int:
    """Of the turns and mirrors among its properties, in their order, as the standard says: EXIF does not count."""
    corners = (0, 1, 2, 3)
    for kind, body in item.properties[:_MAX_TURNS]:
        if kind == b"irot" and body:
            for _ in range(body[0] & 3):
                corners = _moved(corners, _TURN)
        elif kind == b"imir" and body:
            corners = _moved(corners, _MIRRORS[body[0] & 1])
    return _HELD[corners]


def _moved(corners: _Corners, places: _Corners) -> _Corners:
    first, second, third, fourth = places
    return corners[first], corners[second], corners[third], corners[fourth]


def _profile(item: Item) -> bytes:
    colours = [body for kind, body in item.properties if kind == b"colr" and len(body) > 4]
    for body in colours:
        if bytes(body[:4]) in {b"prof", b"rICC"}:
            return from_icc(bytes(body[4:]))
    for body in colours:
        if bytes(body[:4]) == b"nclx" and len(body) >= 8:
            return from_codes(*struct.unpack_from(">HH", body, 4))
    return b""


def _kept_properties(item: Item) -> list[tuple[bytes, memoryview]]:
    """What decoders need; of colours only how luminance is mixed of them."""
    return [
        (kind, body)
        for kind, body in item.properties
        if kind in _KEPT or (kind == b"colr" and bytes(body[:4]) == b"nclx")
    ][:_MAX_PROPERTIES]


def _written(made: _File) -> bytes:
    """A whole file: items are numbered as they were."""
    brand = _BRANDS[made.coding]
    head = box(b"ftyp", brand, b"\0\0\0\0", b"mif1", brand, b"miaf")
    rest = [
        full_box(b"iinf", 1, _long(len(made.kept)), *_kinds(made)),
        full_box(b"iref", 1, *_references(made)),
        _properties(made),
    ]
    sizes = [len(content) for _, _, content in made.kept]

    def meta(start: int) -> bytes:
        starts = [start, *(start + end for end in accumulate(sizes))]
        places = [
            struct.pack(">IHHHII", number, 0, 0, 1, at, size)
            for (number, _, _), at, size in zip(made.kept, starts, sizes, strict=False)
        ]
        return full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, b"\0\0\0\0pict", bytes(13)),
            full_box(b"pitm", 1, _long(made.items.primary)),
            full_box(b"iloc", 2, b"\x44\0", _long(len(sizes)), *places),
            *rest,
        )

    start = len(head) + len(meta(0)) + 8
    return b"".join([head, meta(start), box(b"mdat", *(content for _, _, content in made.kept))])


def _long(value: int) -> bytes:
    return struct.pack(">I", value)


def _kinds(made: _File) -> list[bytes]:
    return [full_box(b"infe", 3, struct.pack(">IH", number, 0), item.kind, b"\0") for number, item, _ in made.kept]


def _references(made: _File) -> list[bytes]:
    return [box(kind, struct.pack(f">IH{len(to)}I", number, len(to), *to)) for kind, number, to in made.references]


def _properties(made: _File) -> bytes:
    """The box `iprp`: each property once, and which item has which."""
    places: dict[tuple[bytes, bytes], int] = {}
    lists = []
    for number, item, _ in made.kept:
        own = [(kind, bytes(body)) for kind, body in _kept_properties(item)]
        indices = [places.setdefault(one, len(places) + 1) | (_ESSENTIAL if one[0] in _MUST else 0) for one in own]
        lists.append(struct.pack(f">IB{len(indices)}H", number, len(indices), *indices))
    return box(
        b"iprp",
        box(b"ipco", *(box(kind, body) for kind, body in places)),
        full_box(b"ipma", 1, _long(len(lists)), *lists, flags=1),
    )
