"""The identity of a run: what must not change when it is resumed."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from mtlora.vocabulary.errors import TrainingError


def settings_of(config: Any, *, free: Collection[str], later: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a dataclass that decide what is computed.

    free:  fields that may change
    later: fields that count only where they are not at their default: a checkpoint from before they existed still fits
    """
    found = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in free or (field.name in later and value == field.default):
            continue
        found[field.name] = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
    return found


def check_same(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, free: Collection[str] = ()) -> None:
    """Raise `TrainingError` that names every setting that differs, but for those that are free to."""
    keys = sorted((theirs.keys() | ours.keys()) - set(free))
    changed = [key for key in keys if theirs.get(key) != ours.get(key)]
    if changed:
        told = "; ".join(f"{key} was {theirs.get(key)!r}, now {ours.get(key)!r}" for key in changed)
        raise TrainingError(f"the checkpoint belongs to another run: {told}")
