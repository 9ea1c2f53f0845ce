"""Key files made and changed as `mtlora keys` does."""

import hashlib
from pathlib import Path

from app.access.key_file import change_keys
from app.access.keys import ApiKey, Scope


def key(secret: str, *scopes: Scope, label: str = "", **fields: object) -> ApiKey:
    return ApiKey.model_validate(
        {
            "label": label or secret,
            "sha256": hashlib.sha256(secret.encode()).hexdigest(),
            "scopes": scopes or (Scope.PREDICT,),
            **fields,
        }
    )


def add(path: Path, *keys: ApiKey) -> None:
    change_keys(path, lambda before: (*before, *keys))


def remove(path: Path, label: str) -> None:
    change_keys(path, lambda before: tuple(k for k in before if k.label != label))
