"""Sets in a store, of bytes that are no weights."""

import hashlib

from app.core.names import AdapterRef
from app.store.adapter_store import AdapterStore


def add(store: AdapterStore, name: str, content: bytes, *, activate: bool = True) -> tuple[int, bool]:
    staged = store.stage(10_000)
    try:
        staged.write(content)
        staged.finish()
        _, revision, created = store.add(name, staged, activate=activate)
    finally:
        staged.close()
    return revision.revision, created


def ref(name: str, revision: int, content: bytes) -> AdapterRef:
    return AdapterRef(name, revision, hashlib.sha256(content).hexdigest())
