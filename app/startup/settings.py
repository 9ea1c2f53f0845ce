"""All settings of the server: environment `MTLORA_*`, the flag of the same name, or a line of a configuration file.

docs/settings.md has them all. Flags win over the environment, the environment over the file.
A `Settings` that exists is usable; what is wrong is said before anything starts.
"""

import ipaddress
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from app.access.gatekeeper import KeyRing
from app.access.key_file import read_keys
from app.access.keys import FORM, parse_keys
from app.core.compute import parse_budget
from app.core.errors import KeyFileError, StartupError
from app.core.names import NAME, NAME_RULE
from app.http.cross_origin import parse_origins
from app.http.fetching import parse_site
from app.http.forwarded import check_root_path, parse_networks
from app.startup.config_file import read_config
from app.store.place import BucketPlace, parse_place
from mtlora.vocabulary.options import FormKind, Precision

MIB = 1024 * 1024
PREFIX = "MTLORA_"
FILE_VALUES = "file_values"
"""Given to `Settings` in place of the configuration file's content: a file that is a pipe can be read once only."""

MOST_BYTES = 2**50  # beyond these a number is a slip, and timers, limits of processes and queues would not take it
MOST_PIXELS = 10**12
MOST_PLACES = 1_000_000
YEAR_S = 31_536_000
YEAR_MS = 1000 * YEAR_S

GROUPS = {
    "host": "Network and access",
    "backbone": "Weights and store",
    "max_body_bytes": "Limits",
    "max_queue_images": "Queue and batches",
    "device_bytes": "Memory and threads",
    "grace_s": "Operation",
}
"""Headings, by the setting that each begins at; those of docs/settings.md too."""


def default_store() -> Path:
    """Where uploaded sets live unless told otherwise."""
    return Path.home() / ".local" / "share" / "mtlora" / "store"


def default_store_cache() -> Path:
    """Where copies of a bucket's files live unless told otherwise; a folder store makes none."""
    return Path.home() / ".cache" / "mtlora" / "store"


def default_decoders() -> int:
    """One more than two costly photos at once can hold up, or one for each processor."""
    return min(16, max(3, os.cpu_count() or 1))


class Contradiction(NamedTuple):
    """What cannot be together, and the settings it is about; the first is the one that is told of."""

    detail: str
    settings: tuple[str, ...]


class ContradictionsError(ValueError):
    """Settings that are right one by one, and not together."""

    def __init__(self, found: Sequence[Contradiction]) -> None:
        self.found = tuple(found)
        super().__init__("; ".join(contradiction.detail for contradiction in found))


class Settings(BaseSettings):
    """Values, units in the names, defaults that suit a small CPU machine."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of the Open Inference Protocol over gRPC; 0 picks a free one; default: none",
    )
    insecure: bool = Field(False, description="allow an address beyond loopback without API keys")
    keys_file: Path | None = Field(None, description="file of API keys, which `mtlora keys` makes and changes")
    api_keys: str = Field("", repr=False, description=f"API keys as hashes: {FORM}; empty: open")
    cors_origins: str = Field("", description="origins whose pages may use the server, comma separated, or *")
    root_path: str = Field("", description="path under which a proxy shows the server, such as /vision")
    forwarded_allow_ips: str = Field(
        "127.0.0.1,::1", description="proxies whose X-Forwarded-* headers count: addresses, networks, or *"
    )

    label_studio: bool = Field(False, description="answer Label Studio as an ML backend, at /label-studio/NAME")
    label_studio_url: str = Field(
        "", description="Label Studio whose uploaded photos are fetched, such as http://label-studio:8080; empty: none"
    )
    label_studio_token_file: Path | None = Field(None, description="file with the access token for fetching them")

    backbone: Path | None = Field(None, description="backbone file; default: the bundled one")
    adapters: Path | None = Field(
        None, description="folder of read-only bundled adapter sets; default: the installed one"
    )
    store: Path | BucketPlace = Field(
        default_factory=default_store,
        description="where uploaded adapter sets live: a folder, or s3://, gs:// or az://BUCKET/PREFIX",
    )
    store_cache: Path = Field(
        default_factory=default_store_cache, description="folder of copies of a bucket's adapter files"
    )
    store_cache_bytes: int = Field(
        4096 * MIB, ge=MIB, le=MOST_BYTES, description="copies of a bucket's adapter files together"
    )
    default_adapter: str = Field("default", description="adapter set of requests that name none; always resident")

    max_body_bytes: int = Field(20_000_000, ge=1024, le=MOST_BYTES, description="largest request body of a prediction")
    max_inflight_body_bytes: int = Field(
        512 * MIB,
        ge=1024,
        le=MOST_BYTES,
        description="bodies of all predictions together, from their first byte to their answer",
    )
    max_image_pixels: int = Field(50_000_000, ge=1, le=MOST_PIXELS, description="largest photo; checked first")
    max_images: int = Field(16, ge=1, le=1000, description="most images in one request")
    max_tiles: int = Field(16, ge=1, le=256, description="most tiles that one photo may be cut in")
    max_adapter_bytes: int = Field(256 * MIB, ge=1024, le=MOST_BYTES, description="largest adapter file")
    max_model_px: int = Field(1024, ge=32, le=4096, description="largest input side that an uploaded set may ask for")
    store_max_bytes: int = Field(
        0, ge=0, le=MOST_BYTES, description="bytes of all uploaded adapter files together; 0: no limit"
    )
    store_timeout_s: float = Field(
        10.0, gt=0, le=3600, description="longest wait for the store: for its lock, for a file of it"
    )
    max_uploads: int = Field(16, ge=1, le=1000, description="adapter files arriving at the same time")
    max_connections: int = Field(800, ge=1, le=MOST_PLACES, description="connections open at the same time")
    max_header_bytes: int = Field(
        16_384, ge=1024, le=MOST_BYTES, description="head of a request: its first line and its headers"
    )
    header_timeout_s: float = Field(20.0, gt=0, le=YEAR_S, description="time for a request's head to arrive")
    stall_timeout_s: float = Field(
        60.0, gt=0, le=YEAR_S, description="how long a client may take nothing of its answer"
    )
    body_timeout_s: float = Field(60.0, gt=0, le=YEAR_S, description="time for a prediction's body to arrive")
    upload_timeout_s: float = Field(600.0, gt=0, le=YEAR_S, description="time for an adapter file to arrive")

    max_queue_images: int = Field(
        64, ge=1, le=MOST_PLACES, description="images admitted and not yet answered, above that 429"
    )
    max_queue_age_ms: int = Field(
        60_000, ge=1, le=YEAR_MS, description="longest expected wait for the engine, above that 429"
    )
    max_batch_images: int | None = Field(
        None, ge=1, le=256, description="images in one micro-batch; default: 1, on a GPU 16"
    )
    max_batch_bytes: int = Field(
        4096 * MIB, ge=1, le=MOST_BYTES, description="memory that one micro-batch may add, estimated"
    )
    batch_wait_ms: float = Field(
        0.0, ge=0, le=10_000, description="how long the first image waits for others to fill a micro-batch"
    )
    calm_wait_ms: float = Field(
        500.0,
        ge=0,
        le=YEAR_MS,
        description="expected wait above which less is computed of images that allow it (compute=auto or a range)",
    )
    compute_default: str | None = Field(
        None, description="compute of requests of which neither they, nor their key, nor their set say it"
    )
    deadline_ms: int = Field(60_000, ge=1, le=YEAR_MS, description="deadline of requests that pass none")
    max_deadline_ms: int = Field(600_000, ge=1, le=YEAR_MS, description="longest deadline a request may pass")

    device_bytes: int | None = Field(
        None,
        ge=1,
        le=MOST_BYTES,
        description="adapter sets on the device together; default: 40% of the memory, 60% of a GPU's",
    )
    host_bytes: int | None = Field(
        None,
        ge=0,
        le=MOST_BYTES,
        description="copies of adapter sets in main memory together; default: 10% of the memory",
    )
    load_failure_ttl_s: float = Field(
        10.0, ge=0, le=YEAR_S, description="how long a failed load is answered from memory"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,4})?)$",
        description="where the model runs: auto, cpu, cuda or cuda:N",
    )
    form: FormKind = Field(FormKind.AUTO, description="how sets are kept on the device: auto, merged, lowrank or plain")
    precision: Precision = Field(
        Precision.FLOAT32,
        description="float32; faster, and maps differ a little: int8 (on a CPU), bfloat16 (on a GPU)",
    )
    loader_threads: int = Field(1, ge=1, le=64, description="adapter sets loaded at the same time")
    decoding: str = Field(
        "processes",
        pattern="^(processes|threads)$",
        description="where photos are decoded: in processes of their own, which no photo harms, or in threads",
    )
    decoders: int = Field(default_factory=default_decoders, ge=1, le=64, description="processes that decode photos")
    decode_seconds: float = Field(
        2.0, gt=0, le=3600, description="of a processor for one photo, and 0.1 more for each megapixel; above that 422"
    )
    max_decode_bytes: int = Field(
        384 * MIB,
        ge=1,
        le=MOST_BYTES,
        description="memory for decoding large photos together; what needs more runs alone, twice as much is 422",
    )
    codec_threads: int = Field(2, ge=1, le=64, description="threads that encode answers")
    max_encode_bytes: int = Field(
        512 * MIB,
        ge=1,
        le=MOST_BYTES,
        description="memory for encoding answers, estimated; what needs more is encoded alone",
    )
    engine_threads: int = Field(0, ge=0, le=256, description="threads of the model's operators; 0: as torch chooses")

    grace_s: float = Field(
        30.0, ge=0, le=YEAR_S, description="after SIGTERM: longest wait for running requests; the rest is 503"
    )
    drain_delay_s: float = Field(
        0.0, ge=0, le=YEAR_S, description="after SIGTERM: how long to answer 503 before the port closes"
    )
    keep_alive_s: int = Field(75, ge=1, le=YEAR_S, description="how long an idle connection stays open")
    metric_adapters: int = Field(20, ge=0, le=1000, description="adapter sets with a metric label of their own")
    audit_log: Path | None = Field(None, description="file that each change of sets and keys adds a line to")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="least level that is logged")
    log_format: str = Field(
        "auto", pattern="^(auto|plain|json)$", description="plain lines, JSON, or auto: plain on a terminal only"
    )
    config: Path | None = Field(None, description="TOML file with any of these settings; flags and environment win")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file that one of them names."""
        given = init_settings()
        values = given.get(FILE_VALUES)
        if values is None:
            path = given.get("config") or env_settings().get("config")
            if not path:
                return init_settings, env_settings
            values = read_config(Path(path), cls.model_fields)
        return init_settings, env_settings, InitSettingsSource(settings_cls, values)

    @field_validator("store", mode="before")
    @classmethod
    def _check_store(cls, place: Any) -> Any:
        return parse_place(place)

    @field_validator(
        "keys_file",
        "label_studio_token_file",
        "backbone",
        "adapters",
        "store",
        "store_cache",
        "audit_log",
        "config",
        mode="before",
    )
    @classmethod
    def _check_path(cls, path: Any) -> Any:
        if path == "" or "\0" in str(path):  # the former would be the working folder
            raise ValueError(f"must be a path, got {str(path)!r}")
        return path

    @field_validator("keys_file")
    @classmethod
    def _check_keys_file(cls, path: Path | None) -> Path | None:
        if path is not None:
            try:
                read_keys(path)
            except KeyFileError as error:
                raise ValueError(error.detail) from error
        return path

    @field_validator("api_keys")
    @classmethod
    def _check_api_keys(cls, text: str) -> str:
        parse_keys(text)
        return text

    @field_validator("compute_default")
    @classmethod
    def _check_compute(cls, text: str | None) -> str | None:
        if text is not None:
            parse_budget(text)
        return text

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, text: str) -> str:
        return ",".join(parse_origins(text))

    @field_validator("label_studio_url")
    @classmethod
    def _check_label_studio(cls, url: str) -> str:
        return str(parse_site(url)) if url else ""

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, path: str) -> str:
        return check_root_path(path)

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _check_proxies(cls, text: str) -> str:
        parse_networks(text)
        return text

    @field_validator("default_adapter")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"adapter names match {NAME_RULE}, got {name[:80]!r}")
        return name

    @property
    def store_folder(self) -> Path:
        """The folder of the store; `StartupError` if it is in a bucket."""
        if not isinstance(self.store, Path):
            raise StartupError(f"the adapter store must be a folder here, it is {self.store}")
        return self.store

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if found := [*self._bounds(), *self._lower_precision(), *self._access()]:
            raise ContradictionsError(found)
        return self

    def _bounds(self) -> Iterator[Contradiction]:
        if self.max_images > self.max_queue_images:
            yield Contradiction(
                f"a request of max_images {self.max_images} would never fit a queue of max_queue_images "
                f"{self.max_queue_images}; lower the one or raise the other",
                ("max_images", "max_queue_images"),
            )
        if self.max_body_bytes > self.max_inflight_body_bytes:
            yield Contradiction(
                f"a body of max_body_bytes {self.max_body_bytes} would never fit max_inflight_body_bytes "
                f"{self.max_inflight_body_bytes}; lower the one or raise the other",
                ("max_body_bytes", "max_inflight_body_bytes"),
            )

    def _lower_precision(self) -> Iterator[Contradiction]:
        for lower, place, wrong in ((Precision.INT8, "CPU", "cuda"), (Precision.BFLOAT16, "GPU", "cpu")):
            if self.precision is lower and (self.form is FormKind.PLAIN or self.device.startswith(wrong)):
                yield Contradiction(
                    f"precision {lower} needs a {place} and a form other than plain, got device {self.device}, "
                    f"form {self.form}",
                    ("precision", "form", "device"),
                )

    def _access(self) -> Iterator[Contradiction]:
        try:
            ring = KeyRing(parse_keys(self.api_keys), self.keys_file)
        except KeyFileError as error:
            yield Contradiction(error.detail, ("keys_file", "api_keys"))
            return
        if ring.open and not self.insecure and not is_loopback(self.host):
            yield Contradiction(
                f"refusing to listen on {self.host!r}: without API keys the server is open to everyone who reaches it; "
                "use 127.0.0.1, give a key file (mtlora keys new, --keys-file) or MTLORA_API_KEYS, or pass --insecure "
                "if the network itself is the protection",
                ("host", "insecure", "keys_file", "api_keys"),
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
