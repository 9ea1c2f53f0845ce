"""Where the store is: a folder, or a prefix of a bucket. Only words here: nothing is opened, no client imported."""

import re
from dataclasses import dataclass
from typing import Any

SCHEMES = {"s3": "S3 and its like", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
EXTRA = "bucket"
CLIENT = "obstore"
"""The package of the extra, which speaks to buckets."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_COMPONENT = re.compile(r"[A-Za-z0-9!_.*'()=@,+-]+")
_FORM = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or the path of a folder"


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """A prefix of a bucket."""

    scheme: str
    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        """As operators write it."""
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def parse_place(place: Any) -> Any:
    """A `BucketPlace` for what is written as a URL, anything else as it is; `ValueError` says what a URL must be."""
    match = _URL.fullmatch(place) if isinstance(place, str) else None
    if match is None:
        return place
    scheme, rest = match[1], match[2]
    if scheme not in SCHEMES:
        raise ValueError(f"must be {_FORM}, got {place[:80]!r}")
    bucket, _, prefix = rest.partition("/")
    parts = prefix.rstrip("/").split("/") if prefix.rstrip("/") else []
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"must be {_FORM}; {bucket[:80]!r} is no name of a bucket")
    wrong = next((part for part in parts if part in {".", ".."} or not _COMPONENT.fullmatch(part)), None)
    if wrong is not None:
        raise ValueError(f"must be {_FORM}; {wrong[:80]!r} cannot be a part of its prefix")
    return BucketPlace(scheme, bucket, "/".join(parts))
