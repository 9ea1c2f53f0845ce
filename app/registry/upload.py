"""Uploads: streamed to the disk, checked against the backbone, then a revision. Nothing a file says is trusted.

A file is hashed while it comes and read once, for the check. It is not kept in memory: slow senders would fill it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ParamSpec, TypeVar

from pydantic import BaseModel, Field

from app.access.keys import Caller
from app.access.quotas import Holdings, check_arriving, check_sets
from app.core.errors import (
    AdapterRefusedError,
    BadBodyError,
    BadParameterError,
    EmptyBodyError,
    QueueFullError,
    StoreUnavailableError,
)
from app.core.names import AdapterRef, check_name
from app.core.numbers import SWITCH
from app.http.multipart import Event, PartBegin, PartData, PartEnd
from app.http.parameters import FORM, MAX_FIELD_BYTES, Found, check_known, field_text, merged
from app.registry.catalog import Catalog
from app.scheduling.background_throttle import BackgroundThrottle
from app.store.adapter_store import AdapterStore
from app.store.blob_store import Staged
from app.store.open_no_link import reason_of
from app.store.store_threads import AdapterThreads
from mtlora.vocabulary.errors import AdapterFileError, MTLoRAError
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.weights.adapter_file import AdapterSet, CheckedFiles, check_backbone, load_adapter
from mtlora.weights.backbone import Backbone

P = ParamSpec("P")
T = TypeVar("T")
CHUNK_BYTES = 1024 * 1024
FILE_FIELD = "file"


class UploadOptions(BaseModel):
    """What an upload may say beside its file: as form fields, or in the query."""

    name: str | None = Field(None, min_length=1, description="name of the set; default: as the file names itself")
    activate: Annotated[bool, SWITCH] = Field(True, description="whether the revision becomes the current one")


FIELDS = (FILE_FIELD, *UploadOptions.model_fields)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Largest things an uploaded set may bring."""

    max_bytes: int
    max_model_px: int
    device_bytes: int
    at_once: int


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of an upload."""

    ref: AdapterRef
    created: bool  # False: the same bytes were there already
    current: bool  # is, or is meant to be
    waits: bool  # to become the current one, until it is on the device: its set is pinned
    adapter: AdapterSet  # as checked


class Uploader:
    """Takes multipart events, gives revisions. File work runs in the executor, so serving goes on meanwhile."""

    def __init__(
        self,
        catalog: Catalog,
        store: AdapterStore,
        backbone: Backbone,
        device_bytes: Callable[[AdapterSpec], int],
        threads: AdapterThreads,
        limits: UploadLimits,
        checked: CheckedFiles,
        throttle: BackgroundThrottle,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._backbone = backbone
        self._device_bytes = device_bytes
        self._executor = threads.uploads
        self._changes = threads.changes
        self._limits = limits
        self._checked = checked
        self._throttle = throttle
        self._arriving: list[_Arriving] = []

    async def receive(
        self, events: AsyncIterator[Event], caller: Caller, announced: int = 0, found: Sequence[Found] = ()
    ) -> Uploaded:
        """One upload from its first byte to its revision; whatever goes wrong, nothing has changed.

        announced: bytes that the file has at least, as far as the client said; 0: unknown
        found:     options that stand before the body
        """
        if len(self._arriving) >= self._limits.at_once:
            raise QueueFullError(f"{len(self._arriving)} uploads are under way, at most {self._limits.at_once} may be")
        arriving = _Arriving(caller, announced, list(found))
        self._arriving.append(arriving)
        try:
            arriving.held = await self._run(self._store.holdings, caller.namespace)
            self._check_quota(arriving)
            self._check_options(arriving)
            return await self._receive(events, arriving)
        finally:
            self._arriving.remove(arriving)

    async def _receive(self, events: AsyncIterator[Event], arriving: "_Arriving") -> Uploaded:
        staged = await self._changes.run(self._store.stage, self._limits.max_bytes)
        try:
            await self._read(events, staged, arriving)
            async with self._throttle.change():
                return await self._admit(staged, arriving)
        finally:
            # Shielded: a client that leaves now must not leave its half-sent file behind.
            await asyncio.shield(self._run(staged.close))

    def _check_quota(self, arriving: "_Arriving") -> None:
        """What is on its way in the same name space counts too, so that uploads at once cannot exceed a quota."""
        space = arriving.caller.namespace
        others = sum(a.size for a in self._arriving if a is not arriving and a.caller.namespace == space)
        check_arriving(arriving.caller, arriving.held, arriving.size, others=others)

    async def _read(self, events: AsyncIterator[Event], staged: Staged, arriving: "_Arriving") -> None:
        buffer = bytearray()
        field, files = "", 0
        async for event in events:
            match event:
                case PartBegin(name=field):
                    check_known(FORM, [field], FIELDS, "form field")
                    files += field == FILE_FIELD
                    if files > 1:
                        raise BadBodyError("an upload has one part named file, this one has more")
                    buffer.clear()
                case PartData(data=data):
                    buffer += data
                    if field != FILE_FIELD and len(buffer) > MAX_FIELD_BYTES:
                        raise BadBodyError(f"the field {field[:40]!r} may have {MAX_FIELD_BYTES} bytes; it has more")
                    if len(buffer) >= CHUNK_BYTES:
                        await self._write(staged, buffer, arriving)
                case PartEnd() if field == FILE_FIELD:
                    await self._write(staged, buffer, arriving)
                case PartEnd():
                    self._take(Found(FORM, field, field_text(field, bytes(buffer))), arriving)
        if staged.size == 0:
            raise EmptyBodyError(
                "an upload needs a part named file with one .safetensors file; got none or an empty one"
            )

    async def _write(self, staged: Staged, buffer: bytearray, arriving: "_Arriving") -> None:
        arriving.size = max(arriving.size, staged.size + len(buffer))
        self._check_quota(arriving)
        await self._run(staged.write, bytes(buffer))
        buffer.clear()

    def _take(self, found: Found, arriving: "_Arriving") -> None:
        if found not in arriving.found:
            arriving.found.append(found)
            self._check_options(arriving)

    def _check_options(self, arriving: "_Arriving") -> None:
        """Refuse before the file has come where that is possible."""
        options = arriving.options()
        if options.name is not None:
            full = self._catalog.locate_own(check_name(options.name), arriving.caller.namespace)
            self._catalog.check_replaceable(full)
            check_sets(arriving.caller, arriving.held, full)

    async def _admit(self, staged: Staged, arriving: "_Arriving") -> Uploaded:
        caller, options = arriving.caller, arriving.options()
        adapter = await self._run(self._finished, staged)
        name = options.name or adapter.manifest.name
        if not name:
            raise BadParameterError("the file does not name itself, so the upload needs a field name")
        full = self._catalog.locate_own(check_name(name), caller.namespace)
        self._catalog.check_replaceable(full)
        waits = options.activate and self._catalog.is_pinned(full)
        add = partial(self._store.add, full, staged, activate=options.activate and not waits, caller=caller)
        state, revision, created = await self._changes.run(add)
        current = options.activate or state.current == revision.revision
        return Uploaded(AdapterRef(full, revision.revision, revision.digest), created, current, waits, adapter)

    def _finished(self, staged: Staged) -> AdapterSet:
        staged.finish()
        return self._validated(staged)

    def _validated(self, staged: Staged) -> AdapterSet:
        try:
            most, digest = self._limits.max_bytes, staged.digest
            adapter = load_adapter(staged.path, max_bytes=most, known=self._checked, digest=digest)
            check_backbone(adapter.manifest, self._backbone)
        except AdapterFileError as error:
            ours = f"{staged.path.name}: "  # a name that tells the client nothing
            raise AdapterRefusedError(error.summary.removeprefix(ours), error.problems) from error
        except MTLoRAError as error:
            raise AdapterRefusedError(f"the file is not a valid adapter set: {error}") from error
        spec = adapter.manifest.spec
        problems = []
        if spec.image_size > self._limits.max_model_px:
            problems.append(f"image_size: {spec.image_size} px, this server allows {self._limits.max_model_px}")
        needed = self._device_bytes(spec)
        if needed > self._limits.device_bytes:
            problems.append(f"size: {needed} bytes on the device, which has {self._limits.device_bytes} for sets")
        if problems:
            raise AdapterRefusedError("the adapter set cannot be served here", problems)
        return adapter

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))
        except OSError as error:
            raise StoreUnavailableError(f"the adapter store cannot be used: {reason_of(error)}") from error


@dataclass(slots=True, eq=False)
class _Arriving:
    """An upload on its way."""

    caller: Caller
    size: int  # bytes of its file, as announced or as far as it came
    found: list[Found]  # options, as far as they came
    held: Holdings = field(default_factory=Holdings)  # of the name space, when it began

    def options(self) -> UploadOptions:
        """What was said so far; `ParameterConflictError` if that is two things at once."""
        return merged(UploadOptions, self.found)
