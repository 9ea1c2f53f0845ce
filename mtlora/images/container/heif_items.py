"""The items of a HEIC or AVIF file: pictures, tiles and notes, where their bytes are, what is said of them."""

from dataclasses import dataclass, field

from mtlora.images.container.bounds import broken, refuse_costly
from mtlora.images.container.boxes import Fields, boxes
from mtlora.vocabulary.errors import ImageFormatError

MAX_ITEMS = 4096
MAX_PARTS_OF_ITEMS = 16_384  # places in the file, of all items together
MAX_READINGS = 2  # of the file's bytes: items may lie in one place
_IN_FILE, _IN_BOX = 0, 1

Property = tuple[bytes, memoryview]
"""Kind and body of a box."""


@dataclass(slots=True)
class Item:
    """One of them."""

    kind: bytes = b""
    places: list[tuple[int, int]] = field(default_factory=list)  # from, to
    is_in_box: bool = False  # places are in the file's box `idat`, else in the file
    properties: list[Property] = field(default_factory=list)

    def property(self, *kinds: bytes) -> memoryview | None:
        """The first of one of these kinds."""
        return next((body for kind, body in self.properties if kind in kinds), None)


@dataclass(slots=True)
class Items:
    """All of a file."""

    data: bytes
    inside: bytes | memoryview = b""  # the box `idat`
    primary: int = 0
    by_id: dict[int, Item] = field(default_factory=dict)
    references: list[tuple[bytes, int, list[int]]] = field(default_factory=list)  # kind, from, to

    def item(self, number: int) -> Item:
        """`ImageError` if there is none of this number."""
        if number not in self.by_id:
            raise broken(f"there is no item {number} in a HEIC or AVIF of {len(self.by_id)}")
        return self.by_id[number]

    def content(self, item: Item) -> bytes:
        """The bytes of an item."""
        source = memoryview(self.inside if item.is_in_box else self.data)
        if any(end > len(source) for _, end in item.places):
            raise broken(f"a picture's bytes end at {max(end for _, end in item.places)} of {len(source)} bytes")
        return b"".join(source[start:end] for start, end in item.places)

    def named_by(self, kind: bytes, number: int) -> list[int]:
        """The items that an item refers to."""
        return next((to for name, start, to in self.references if (name, start) == (kind, number)), [])

    def naming(self, kind: bytes, number: int) -> list[int]:
        """The items that refer to an item."""
        return [start for name, start, to in self.references if name == kind and number in to]


def read_items(data: bytes) -> Items:
    """What the first box `meta` says; `ImageFormatError` if there is none, `ImageError` if it lacks something."""
    items = Items(data)
    meta = next((body for kind, body in boxes(memoryview(data)) if kind == b"meta"), None)
    if meta is None:
        kind = "AVIF" if data[8:11] == b"avi" else "HEIC"
        raise ImageFormatError(
            f"this begins like {kind} and holds no still picture: send all of it, or export it as JPEG or PNG"
        )
    parts = dict(reversed(list(boxes(meta[4:]))))
    missing = {b"pitm", b"iinf", b"iloc", b"iprp"} - parts.keys()
    if missing:
        raise broken(f"a HEIC or AVIF without its box {min(missing).decode()}")
    items.inside = parts.get(b"idat", memoryview(b""))
    primary = Fields(parts[b"pitm"])
    items.primary = primary.number(4 if primary.version()[0] else 2)
    _read_kinds(items, parts[b"iinf"])
    _read_places(items, parts[b"iloc"])
    if b"iref" in parts:
        _read_references(items, parts[b"iref"])
    _read_properties(items, parts[b"iprp"])
    return items


def _read_kinds(items: Items, body: memoryview) -> None:
    fields = Fields(body)
    count = fields.number(4 if fields.version()[0] else 2)
    if count > MAX_ITEMS:
        refuse_costly(f"{count} items of a HEIC or AVIF", MAX_ITEMS)
    for _, entry in boxes(fields.rest()):
        one = Fields(entry)
        version, _ = one.version()
        if version >= 2:
            number, _ = one.number(4 if version == 3 else 2), one.number(2)
            items.by_id.setdefault(number, Item()).kind = bytes(one.part(4))


def _read_places(items: Items, body: memoryview) -> None:
    fields = Fields(body)
    version, _ = fields.version()
    sizes = fields.number(2)
    offset_bytes, length_bytes, base_bytes = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_bytes = sizes & 15 if version else 0
    parts = total = 0
    for _ in range(min(fields.number(4 if version == 2 else 2), MAX_ITEMS)):
        number = fields.number(4 if version == 2 else 2)
        method = fields.number(2) & 15 if version else _IN_FILE
        fields.number(2)
        base, count = fields.number(base_bytes), fields.number(2)
        parts += count
        if parts > MAX_PARTS_OF_ITEMS:
            refuse_costly("parts of a HEIC's or AVIF's items", MAX_PARTS_OF_ITEMS)
        item = items.by_id.get(number, Item())
        item.is_in_box = method == _IN_BOX
        for _ in range(count):
            fields.number(index_bytes)
            start = base + fields.number(offset_bytes)
            end = start + fields.number(length_bytes) if length_bytes else len(items.data)
            total += max(0, end - start)
            item.places.append((start, end))
        if method not in {_IN_FILE, _IN_BOX}:
            item.places.clear()
    if total > MAX_READINGS * len(items.data):
        refuse_costly(f"items of {total} bytes in a file of {len(items.data)}", MAX_READINGS * len(items.data))


def _read_references(items: Items, body: memoryview) -> None:
    fields = Fields(body)
    size = 4 if fields.version()[0] else 2
    for kind, entry in boxes(fields.rest()):
        if kind in {b"dimg", b"auxl"}:
            one = Fields(entry)
            start = one.number(size)
            items.references.append((kind, start, one.numbers(min(one.number(2), MAX_ITEMS), size)))


def _read_properties(items: Items, body: memoryview) -> None:
    parts = list(boxes(body))
    known = [one for kind, inner in parts if kind == b"ipco" for one in boxes(inner)]
    steps = 0
    for kind, inner in parts:
        if kind != b"ipma":
            continue
        fields = Fields(inner)
        version, flags = fields.version()
        for _ in range(min(fields.number(4), MAX_ITEMS)):
            number = fields.number(4 if version else 2)
            item = items.by_id.get(number, Item())
            for index in fields.numbers(fields.number(1), 2 if flags & 1 else 1):
                place = (index & (0x7FFF if flags & 1 else 0x7F)) - 1
                if 0 <= place < len(known):
                    item.properties.append(known[place])
            steps += len(item.properties)
            if steps > MAX_PARTS_OF_ITEMS:
                refuse_costly("properties of a HEIC's or AVIF's items", MAX_PARTS_OF_ITEMS)
