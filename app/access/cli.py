"""The command `mtlora keys`: make, list and revoke API keys. Running servers notice within a second or two."""

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from app.access.key_file import change_keys, read_keys
from app.access.keys import ApiKey, Quota, first_fault, parse_scopes
from app.core.errors import KeyFileError

PREFIX = "mtlora_"  # tells people and secret scanners what it is
SHOWN_DIGITS = 8
_DURATION = re.compile(r"([1-9][0-9]{0,4})([dh])")
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1)}


class KeysGroup(TyperGroup):
    """`mtlora keys`: its options belong to its commands, and whoever begins with one is told so."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As usual, unless the first word is an option of the commands."""
        first = args[0].partition("=")[0] if args else ""
        if first in {"--file", "--key-file", "--keys", "--keys-file"}:
            flag = "--file" if first == "--file" else "--keys-file"
            ctx.fail(f"{flag} stands behind a command: {ctx.command_path} list {flag} FILE")
        return super().parse_args(ctx, args)


keys = typer.Typer(cls=KeysGroup, help="Make, list and revoke API keys of the server.", no_args_is_help=True)

FileOption = Annotated[
    Path,
    typer.Option(
        "--file",
        "--keys-file",
        envvar="MTLORA_KEYS_FILE",
        help="Key file; made if missing, mode 0600.",
        show_default=False,
    ),
]
LabelArgument = Annotated[str, typer.Argument(help="What the key is called in logs and in `keys list`.")]


@keys.command()
def new(  # noqa: PLR0913 (a command's options)
    label: LabelArgument,
    file: FileOption,
    scopes: Annotated[str, typer.Option(help="Comma list: predict, adapters:read, adapters:write, metrics.")],
    namespace: Annotated[str, typer.Option(help="Name space of the key's adapter sets; default: the global one.")] = "",
    max_sets: Annotated[int | None, typer.Option(help="Most adapter sets in the name space.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Most bytes of adapter files in the name space.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Most requests in a minute.")] = None,
    compute: Annotated[
        str,
        typer.Option(help="Of its requests that say nothing: 0.6, a range 0.5-1, or auto; default: as the set says."),
    ] = "",
    expires: Annotated[str, typer.Option(help="Date (2030-01-31), time with zone, or so long: 90d, 12h.")] = "",
) -> None:
    """Make a key and print it. This is the only time that anyone sees it: the file holds its hash."""
    key = PREFIX + secrets.token_urlsafe(32)
    try:
        entry = ApiKey(
            label=label,
            sha256=hashlib.sha256(key.encode()).hexdigest(),
            scopes=parse_scopes(scopes, ","),
            namespace=namespace,
            quota=Quota(max_sets=max_sets, max_bytes=max_bytes, requests_per_minute=requests_per_minute),
            compute=compute or None,
            created=_now(),
            expires=parse_expiry(expires) if expires else None,
        )
    except ValidationError as error:
        _fail(first_fault(error))
    except ValueError as error:
        _fail(str(error))
    _change(file, lambda before: (*before, entry))
    typer.echo(f"key {label!r} added to {file}; keep it, it is shown only now:", err=True)
    typer.echo(key)


@keys.command(name="list")
def list_keys(file: FileOption, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show every key's label, rights and limits, and the first digits of its hash."""
    try:
        rows = [_row(key) for key in read_keys(file)]
    except KeyFileError as error:
        _fail(error.detail)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo("  ".join(f"{name}={value}" for name, value in row.items() if value not in (None, "")))


@keys.command()
def revoke(label: LabelArgument, file: FileOption) -> None:
    """Take a key out of the file; running servers refuse it from then on."""

    def without(before: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        if label not in {key.label for key in before}:
            raise KeyFileError(
                f"there is no key {label!r} in {file}; keys: {', '.join(k.label for k in before) or 'none'}"
            )
        return tuple(key for key in before if key.label != label)

    _change(file, without)
    typer.echo(f"key {label!r} revoked", err=True)


def parse_expiry(text: str) -> datetime:
    """When a key ends; `ValueError` if that is over or no time at all."""
    if match := _DURATION.fullmatch(text):
        return _now() + int(match[1]) * _UNITS[match[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"expires is a date (2030-01-31), a time with zone, or a span (90d, 12h), got {text!r}"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= _now():
        raise ValueError(f"expires must lie ahead, got {text!r}")
    return moment


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "label": key.label,
        "scopes": "+".join(sorted(key.scopes)),
        "namespace": key.namespace,
        **key.quota.model_dump(),
        "compute": key.compute,
        "created": key.created.isoformat() if key.created else None,
        "expires": key.expires.isoformat() + (" (over)" if key.expired() else "") if key.expires else None,
        "sha256": f"{key.sha256[:SHOWN_DIGITS]}…",
    }


def _change(file: Path, change: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]) -> None:
    try:
        change_keys(file, change)
    except (KeyFileError, ValueError) as error:
        _fail(error.detail if isinstance(error, KeyFileError) else str(error))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _fail(message: str) -> NoReturn:
    typer.echo(f"mtlora keys: {message}", err=True)
    raise typer.Exit(1)
