"""The record `run.json`: what is needed to repeat the run that made the result, written when that run begins."""

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
from mtlora.data.records import PhotoDataset
from mtlora.version import full_version
from mtlora.vocabulary.errors import TrainingError
from mtlora.weights.atomic import write_atomically

RECORD_FILE = "run.json"
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "safetensors")


def write_record(folder: Path, config: Any, photos: PhotoCache, more: Mapping[str, Any], *, step: int = 0) -> None:
    """Write settings, command, versions, machine and digests of the inputs.

    step: done before; at 0 a run begins and whatever another left is replaced, else its command is added to those that
          resumed the run
    """
    path = folder / RECORD_FILE
    command = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "command": sys.argv}
    if step and path.is_file():
        record = read_record(folder)
        record["resumed"] = [*record.get("resumed", []), command | {"step": step}]
    else:
        record = {
            **command,
            "settings": _plain(config),
            "photos": {"count": len(photos), "ids_sha256": digest("\n".join(photos.ids).encode())},
            "versions": {"mtlora": full_version(), "python": platform.python_version(), **_versions()},
            "machine": _machine(),
            **more,
        }
    text = json.dumps(record, indent=2, default=str) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def read_record(folder: Path) -> dict[str, Any]:
    """What `write_record` wrote; `TrainingError` where there is none, or it is damaged."""
    path = folder / RECORD_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read as the record of a run: {error}") from error
    if not isinstance(record, dict):
        raise TrainingError(f"{path} is not the record of a run: it holds {type(record).__name__}, not an object")
    return record


def data_digest(dataset: PhotoDataset) -> str:
    """sha256 over IDs, photos and labels of a split, in the order of its list, hexadecimal: other content, another."""
    whole = hashlib.sha256()
    for record in dataset.records:
        whole.update(record.id.encode() + b"\0" + bytes.fromhex(file_digest(record.photo)))
        for task, label in sorted(record.labels.items()):
            whole.update(task.value.encode() + b"\0")
            for path in label.files:
                whole.update(bytes.fromhex(file_digest(path)))
    return whole.hexdigest()


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
