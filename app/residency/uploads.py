"""Uploads: streamed to the disk, checked against the backbone, only then a revision. No word of a file is trusted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from app.errors import AdapterRefusedError, BadBodyError, BadParameterError, EmptyBodyError
from app.intake.multipart import Event, PartBegin, PartData, PartEnd
from app.residency.catalog import Catalog
from app.residency.names import check_name
from app.residency.state import Revision
from app.residency.store import AdapterStore, Staged
from mtlora.adapter_file import AdapterManifest, check_backbone, load_adapter
from mtlora.backbone import Backbone
from mtlora.errors import AdapterFileError, MTLoRAError
from mtlora.spec import AdapterSpec

CHUNK_BYTES = 1024 * 1024
FIELD_BYTES = 1024
_TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Largest things an uploaded set may bring."""

    max_bytes: int
    max_model_px: int
    device_bytes: int


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of an upload."""

    name: str
    revision: Revision
    created: bool  # False: the same bytes were there already


class Uploader:
    """Takes multipart events, gives revisions. File work runs in the executor, so serving goes on meanwhile."""

    def __init__(
        self,
        catalog: Catalog,
        store: AdapterStore,
        backbone: Backbone,
        device_bytes: Callable[[AdapterSpec], int],
        executor: Executor,
        limits: UploadLimits,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._backbone = backbone
        self._device_bytes = device_bytes
        self._executor = executor
        self._limits = limits

    async def receive(self, events: AsyncIterator[Event]) -> Uploaded:
        """One upload from its first byte to its revision; whatever goes wrong, nothing has changed."""
        loop = asyncio.get_running_loop()
        staged = await loop.run_in_executor(self._executor, self._store.stage, self._limits.max_bytes)
        try:
            fields = await self._read(events, staged)
            activate = parse_flag("activate", fields.get("activate", "true"))
            work = partial(self._admit, staged, fields.get("name", ""), activate)
            return await loop.run_in_executor(self._executor, work)
        finally:
            # Shielded: a client that leaves now must not leave its half-sent file behind.
            await asyncio.shield(loop.run_in_executor(self._executor, staged.close))

    async def _read(self, events: AsyncIterator[Event], staged: Staged) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        fields: dict[str, str] = {}
        buffer = bytearray()
        field, files = "", 0
        async for event in events:
            match event:
                case PartBegin(name=field):
                    files += field == "file"
                    if files > 1:
                        raise BadBodyError("an upload has one part named file, this one has more")
                    buffer.clear()
                case PartData(data=data):
                    buffer += data
                    if field != "file" and len(buffer) > FIELD_BYTES:
                        raise BadBodyError(f"the field {field[:40]!r} may have {FIELD_BYTES} bytes; it has more")
                    if len(buffer) >= CHUNK_BYTES:
                        await loop.run_in_executor(self._executor, staged.write, bytes(buffer))
                        buffer.clear()
                case PartEnd() if field == "file":
                    await loop.run_in_executor(self._executor, staged.write, bytes(buffer))
                case PartEnd():
                    fields[field] = buffer.decode("utf-8", "replace").strip()
                    self._check_field(field, fields[field])
        if staged.size == 0:
            raise EmptyBodyError(
                "an upload needs a part named file with one .safetensors file; got none or an empty one"
            )
        return fields

    def _check_field(self, field: str, value: str) -> None:
        """Refuse before the file has come where that is possible."""
        if field == "name" and value:
            self._catalog.check_replaceable(check_name(value))

    def _admit(self, staged: Staged, name: str, activate: bool) -> Uploaded:
        staged.finish()
        manifest = self._validated(staged)
        name = name or manifest.name
        if not name:
            raise BadParameterError("the file does not name itself, so the upload needs a field name")
        self._catalog.check_replaceable(check_name(name))
        _, revision, created = self._store.add(name, staged, activate=activate)
        return Uploaded(name, revision, created)

    def _validated(self, staged: Staged) -> AdapterManifest:
        try:
            adapter = load_adapter(staged.path, max_bytes=self._limits.max_bytes)
            check_backbone(adapter.manifest, self._backbone)
        except AdapterFileError as error:
            file_name = staged.path.name  # ours, not the client's: of no use to them
            raise AdapterRefusedError(error.summary.replace(file_name, "the file"), error.problems) from error
        except MTLoRAError as error:
            raise AdapterRefusedError(f"the file is not a valid adapter set: {error}") from error
        spec = adapter.manifest.spec
        problems = []
        if spec.image_size > self._limits.max_model_px:
            problems.append(f"image_size: {spec.image_size} px, this server allows {self._limits.max_model_px}")
        needed = self._device_bytes(spec)
        if needed > self._limits.device_bytes:
            problems.append(f"size: {needed} bytes on the device, which has {self._limits.device_bytes} for sets")
        if adapter.digest != staged.digest:
            problems.append(f"digest: {staged.digest} was received, {adapter.digest} was written")
        if problems:
            raise AdapterRefusedError("the adapter set cannot be served here", problems)
        return adapter.manifest


def parse_flag(name: str, value: str) -> bool:
    """A yes or no as forms send it."""
    try:
        return _TRUTH[value.lower()]
    except KeyError:
        raise BadParameterError(f"{name} must be true or false, got {value[:40]!r}") from None
