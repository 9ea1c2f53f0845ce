"""The options with which a command finds its server: address, key, timeout."""

import functools
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlora.vocabulary.errors import RefusedError, RemoteError

if TYPE_CHECKING:
    from mtlora.client import AsyncClient, Client

UrlOption = Annotated[str, typer.Option(envvar="MTLORA_URL", help="Address of the server.")]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(help="File with the API key; else the environment's MTLORA_KEY. A key is never an argument."),
]
TimeoutOption = Annotated[float, typer.Option(help="Seconds without a byte after which a request is given up.")]
UNAUTHORIZED = 401
SET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
COMPLETED_BYTES = 8 * 2**20
MAX_KEY_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is, and what it is asked with."""

    url: str
    key_file: Path | None
    timeout: float

    def client(self) -> "Client":
        """A client, to be closed."""
        from mtlora.client import Client

        return Client(self.url, key=self.key(), timeout_s=self.timeout)

    def async_client(self, connections: int) -> "AsyncClient":
        """The same, for an event loop."""
        from mtlora.client import AsyncClient

        return AsyncClient(self.url, key=self.key(), timeout_s=self.timeout, connections=connections)

    def key(self) -> str:
        """The API key; empty if none is given."""
        if self.key_file is None:
            return os.environ.get("MTLORA_KEY", "").strip()
        try:
            with self.key_file.open("rb") as file:  # a pipe will do; what never ends is read so far
                lines = file.read(MAX_KEY_BYTES).decode().split()
        except (OSError, UnicodeDecodeError) as error:
            raise RemoteError(f"cannot read the key file {self.key_file}: {error}") from error
        if len(lines) != 1:
            raise RemoteError(f"{self.key_file} should hold one key and nothing else, got {len(lines)} words")
        return lines[0]


def with_server(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is a `Server`, with --url, --key-file and --timeout in its place."""
    own = list(inspect.signature(command).parameters.values())[1:]
    added = [
        inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, default="http://127.0.0.1:8000", annotation=UrlOption),
        inspect.Parameter("key_file", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=KeyFileOption),
        inspect.Parameter("timeout", inspect.Parameter.KEYWORD_ONLY, default=60.0, annotation=TimeoutOption),
    ]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + added

    @functools.wraps(command)
    def connected(*, url: str, key_file: Path | None, timeout: float, **given: Any) -> None:
        try:
            command(Server(url, key_file, timeout), **given)
        except RefusedError as error:
            if error.status != UNAUTHORIZED:
                raise
            raise RemoteError(
                f"{error}\n  The key is taken from the environment's MTLORA_KEY, or --key-file"
            ) from error

    connected.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    connected.__annotations__ = {p.name: p.annotation for p in parameters}
    del connected.__wrapped__
    return connected


def adapter_names(incomplete: str) -> list[str]:
    """Names of the server's sets, for shell completion; none if it does not answer at once.

    Only what can be a name: shells evaluate what they are given to complete.
    """
    from mtlora.client import Client, Limits, Retry
    from mtlora.vocabulary.errors import MTLoRAError

    url = os.environ.get("MTLORA_URL", "http://127.0.0.1:8000")
    try:
        limits = Limits(document_bytes=COMPLETED_BYTES)
        with Client(url, timeout_s=1.0, retry=Retry(attempts=1), limits=limits) as client:
            names = [found.name for found in client.adapters().adapters if SET_NAME.fullmatch(found.name)]
            return [name for name in names if name.startswith(incomplete)]
    except MTLoRAError:
        return []
