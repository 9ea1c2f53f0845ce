"""Zip files in memory of their own: PNGs with a document, and numpy's arrays."""

import math
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import IO, cast

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from app.answers.documents import closed
from app.answers.form import Document, Pieces
from app.answers.oip_tensors import own_memory
from app.answers.rendered import Rendered
from mtlora.maps.postprocessing import PhotoMap, WholeMap

_MEMBER_BYTES = 1 << 10  # of an archive's names and headers, for each member and its end
_GROWTH = 1000  # of what does not deflate, a part of it
_SAID_BYTES = 1 << 10  # of a document beside what its map holds: names, and what is known last


def archive_of(rendered: Rendered) -> "_Archive":
    """One PNG per task, and room for `result.json`. Stored: PNGs do not shrink further."""
    members = {f"{task.value}.png": rendered.maps[task].picture.pieces() for task in rendered.documents}
    said = sum(map(len, rendered.documents.values())) + _SAID_BYTES * (len(members) + 1)
    archive = _Archive(sum(len(piece) for pieces in members.values() for piece in pieces) + said, len(members) + 1)
    for name, pieces in members.items():
        archive.add(name, pieces)
    return archive


def archived(archive: "_Archive", begun: Pieces, about: Callable[[], Document]) -> Pieces:
    archive.add("result.json", closed(begun, about))
    return [archive.written()]


def npz(arrays: Mapping[str, PhotoMap | WholeMap]) -> memoryview:
    """As `numpy.savez` writes it, but band by band, and class maps deflated."""
    whole = sum(source.nbytes for source in arrays.values())
    archive = _Archive(whole + whole // _GROWTH, len(arrays))
    for name, source in arrays.items():
        known = zipfile.ZipInfo(f"{name}.npy", time.localtime()[:6])
        known.external_attr = 0o600 << 16
        is_packed = source.nbytes == math.prod(source.shape)  # bytes, of which most are as their neighbours
        known.compress_type = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
        with archive.zip.open(known, "w", force_zip64=True) as member:
            for number, band in enumerate(source.bands()):
                if not number:
                    header = {"descr": dtype_to_descr(band.dtype), "fortran_order": False, "shape": source.shape}
                    write_array_header_1_0(member, header)
                member.write(np.ascontiguousarray(band).data.cast("B"))
    return archive.written()


class _Archive:
    """A zip file in memory of its own: in one piece from the start, so it is never copied."""

    def __init__(self, nbytes: int, members: int) -> None:
        self._room = own_memory(nbytes + _MEMBER_BYTES * (members + 1))
        self.zip = zipfile.ZipFile(cast(IO[bytes], self._room), "w", zipfile.ZIP_STORED, compresslevel=1)

    def add(self, name: str, pieces: Sequence[bytes | memoryview]) -> None:
        """A member, as it is."""
        known = zipfile.ZipInfo(name, time.localtime()[:6])
        known.external_attr, known.file_size = 0o600 << 16, sum(map(len, pieces))
        with self.zip.open(known, "w") as member:
            member.writelines(pieces)

    def written(self) -> memoryview:
        """The file, which is complete now."""
        self.zip.close()
        return memoryview(self._room)[: self._room.tell()]
