"""The record `run.json`: what is needed to repeat a run, written when it begins."""

import dataclasses
import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from mtlora.data.cache import PhotoCache
from mtlora.version import __version__

RECORD_FILE = "run.json"
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "safetensors")


def write_record(folder: Path, config: Any, photos: PhotoCache, more: Mapping[str, Any]) -> None:
    """Write settings, command, versions, machine and digests of the inputs; a resumed run adds its command."""
    path = folder / RECORD_FILE
    command = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "command": sys.argv}
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        record["resumed"] = [*record.get("resumed", []), command]
    else:
        record = {
            **command,
            "settings": _plain(config),
            "photos": {"count": len(photos), "ids_sha256": digest("\n".join(photos.ids).encode())},
            "versions": {"mtlora": __version__, "python": platform.python_version(), **_versions()},
            "machine": _machine(),
            **more,
        }
    path.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")


def file_digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: bytes) -> str:
    """sha256 of bytes, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _plain(config: Any) -> dict[str, Any]:
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    spec = fields.pop("spec")
    plain = {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in fields.items()}  # type: ignore[arg-type]
    return plain | {"spec": json.loads(spec.to_json())}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # torch may come without its metadata
            found[name] = "unknown"
    return found


def _machine() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }
