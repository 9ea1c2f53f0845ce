"""The JSON documents of adapter sets."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.access.keys import Caller
from app.composition.parts import Parts
from app.core.compute import offered, usual
from app.core.names import plain_name
from app.core.numbers import PLAIN
from app.core.tiers import Tier
from app.http.parameters import Strict
from app.registry.lookup import Described
from mtlora.weights.adapter_file import AdapterManifest

MOST_REVISION = 999_999_999


class RevisionOut(BaseModel):
    """One immutable revision."""

    revision: int
    digest: str = Field(description="sha256 of the file")
    bytes: int
    created: str
    current: bool
    tier: Tier = Field(description="nearest place of its tensors: file, main memory, device")
    tasks: list[str] = Field(description="names of this revision's tasks")


class AdapterTaskOut(BaseModel):
    """One task of a set's current revision."""

    outputs: int
    ranks: tuple[int, int, int, int] = Field(description="rank of the task's own pairs in stages 0 to 3")
    decoder: str
    axes: str = ""
    classes: list[dict[str, Any]] = Field(default_factory=list, description="id, name, color")


class AdapterSetOut(BaseModel):
    """One adapter set; what depends on a revision is said of the current one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "people",
                    "current": 2,
                    "digest": "0f3c" + "0" * 60,
                    "bytes": 7340032,
                    "tasks": {"saliency": {"outputs": 1, "ranks": [4, 4, 4, 4], "decoder": "hrnet"}},
                    "ranks": [16, 16, 16, 16],
                    "image_size": 448,
                    "compute": 0.3,
                    "default_compute": "0.6",
                    "tier": "device",
                    "status": "ready",
                    "reason": "",
                    "pinned": False,
                    "default": False,
                    "bundled": False,
                    "uses": 12,
                    "last_used": "2030-01-01T00:00:00+00:00",
                    "revisions": [
                        {
                            "revision": 2, "digest": "0f3c" + "0" * 60, "bytes": 7340032,
                            "created": "2030-01-01T00:00:00+00:00", "current": True, "tier": "device",
                            "tasks": ["saliency"],
                        }
                    ],
                }
            ]
        }
    )  # fmt: skip

    name: str
    current: int
    digest: str
    bytes: int
    tasks: dict[str, AdapterTaskOut]
    ranks: tuple[int, int, int, int] | None = Field(
        description="rank of the shared pairs in stages 0 to 3; null if the file cannot be read"
    )
    image_size: int | None = Field(description="input side in pixels; null if the file cannot be read")
    compute: float | None = Field(
        None, description="the smallest `compute` that can be asked for; null: no policy, so everything is computed"
    )
    default_compute: str = Field(
        description="what is computed where a request of this key says nothing: as `compute` of /predict"
    )
    tier: Tier
    status: Literal["ready", "loading", "failed"] = Field(description="failed: it cannot be used, for this reason")
    reason: str = Field(description="why it failed; empty if it did not")
    pinned: bool
    default: bool
    bundled: bool = Field(description="came with the server; read-only")
    uses: int = Field(description="requests since this process started")
    last_used: str | None
    revisions: list[RevisionOut]

    @classmethod
    def of(cls, found: Described, caller: Caller, parts: Parts) -> Self:
        """The document of one set as it is now, for that caller."""
        adapters, policy = parts.adapters, found.current.policy if found.current else None
        entry, spec = found.entry, found.current.spec if found.current else None
        current, usage = entry.ref(), adapters.device_cache.usage.get(entry.state.name)
        revisions = [
            RevisionOut(
                revision=r.revision,
                digest=r.digest,
                bytes=r.bytes,
                created=r.created,
                current=r.revision == current.revision,
                tier=adapters.tier(entry.ref(r.revision)),
                tasks=_task_names(found.manifests.get(r.revision)),
            )
            for r in entry.state.revisions
        ]
        now = next(r for r in revisions if r.current)
        tasks = {
            t.task.value: AdapterTaskOut(
                outputs=t.outputs,
                ranks=t.ranks,
                decoder=t.decoder.value,
                axes=t.axes,
                classes=[{"id": i, "name": c.name, "color": c.color} for i, c in enumerate(t.classes)],
            )
            for t in (spec.tasks if spec else ())
        }
        last_used = usage.last_used if usage else None
        return cls(
            name=plain_name(current.name),
            current=current.revision,
            digest=now.digest,
            bytes=now.bytes,
            tasks=tasks,
            ranks=spec.ranks if spec else None,
            image_size=spec.image_size if spec else None,
            compute=offered(policy).lowest if offered(policy).is_open else None,
            default_compute=str(usual(policy, caller.compute, parts.compute_default)),
            tier=now.tier,
            status="failed" if found.fault else "loading" if adapters.device_cache.is_loading(current) else "ready",
            reason=found.fault,
            pinned=entry.pinned,
            default=entry.default,
            bundled=entry.bundled,
            uses=usage.uses if usage else 0,
            last_used=datetime.fromtimestamp(last_used, UTC).isoformat(timespec="milliseconds") if last_used else None,
            revisions=revisions,
        )


def _task_names(manifest: AdapterManifest | None) -> list[str]:
    return [task.value for task in manifest.spec.task_names] if manifest else []


class AdapterListOut(BaseModel):
    """Every adapter set, by name."""

    default: str = Field(description="the set of requests that name none")
    adapters: list[AdapterSetOut]


class CurrentIn(Strict):
    """Which revision is to be the current one."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"revision": 2}]})

    revision: Annotated[int, Field(ge=1, le=MOST_REVISION), PLAIN]
