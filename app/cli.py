"""The command `mtlora serve`: every setting is a flag. What needs no torch is checked before torch is imported."""

import inspect
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NamedTuple

import typer
from pydantic.fields import FieldInfo

from app.core.errors import SettingError, StartupError
from app.startup import listening, preflight
from app.startup.descriptors import make_room
from app.startup.help import FLAG_ONLY_ENVIRONMENT, ServeCommand, metavar, plain_kind
from app.startup.setting_faults import examine, flag_of
from app.startup.settings import Settings
from app.telemetry.logs import printable, set_up_logs
from mtlora.version import __version__, commit

log = logging.getLogger(__name__)

# By default glibc gives large tensors back to the kernel after every operator, and the page faults of getting them
# again cost 10 to 50 % of a forward pass on a CPU. One arena: with one for each thread every thread that loads sets or
# draws maps keeps its own peak for ever. glibc reads these before the process begins, hence the re-exec.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
    "MALLOC_ARENA_MAX": "1",
}

# After every forward pass GNU OpenMP's threads wait 6 to 16 ms for another loop in a busy loop, which keeps a core from
# drawing the answer's maps. So many turns, a third of a ms or so, are enough to meet the next loop of the same pass.
WAITING = {"GOMP_SPINCOUNT": "10000"}
ENVIRONMENT = ALLOCATOR | WAITING
"""What `mtlora serve` starts itself again with, unless the variables are there."""

FAILED = 1
WRONG_SETTING = 2
"""Exit status where a restart makes it no better; deploy/systemd reckons with it."""


class Prepared(NamedTuple):
    """Settings that nothing is known against, and the port that they ask for, taken."""

    settings: Settings
    sockets: listening.Sockets


def serve(**flags: Any) -> None:
    """Serve the backbone and its adapter sets over HTTP. Every option is also an environment variable MTLORA_*."""
    _use_environment()  # first: what is read and taken below is so once, and a pipe can be read once only
    settings, sockets = prepare({name: value for name, value in flags.items() if value is not None})
    set_up_logs(settings.log_level, settings.log_format)
    version = {"version": __version__, "commit": commit()}
    connections = _room_for_connections(settings)
    log.info("starting", extra={**version, "plain": "starting: importing torch …"})
    try:
        from app.server import run  # torch comes with it: only now, and only for this command
    except (ImportError, OSError) as error:  # the latter: a library of torch's that does not fit this machine
        log.error("cannot start", extra={"reason": f"the server's libraries cannot be imported: {error}"})
        raise typer.Exit(FAILED) from None
    raise typer.Exit(run(settings, sockets, connections))


serve.command_class = ServeCommand  # type: ignore[attr-defined]


def prepare(given: dict[str, Any]) -> Prepared:
    """Settings and port; exits with status 2 and one line for each fault, all that can be told at once."""
    settings, wrong, doubtful, origins = examine(given, os.environ)
    found = list(wrong)
    sockets: listening.Sockets = ()
    if settings is not None:
        found += [fault for fault in preflight.faults(settings) if fault.setting not in doubtful]
        if doubtful.isdisjoint({"host", "port"}):
            try:
                sockets = listening.bind(settings.host, settings.port)
            except SettingError as fault:
                found.append(fault)
        if not found:
            return Prepared(settings, sockets)
    listening.close(sockets)
    _say(found, origins)
    raise typer.Exit(WRONG_SETTING)


def _room_for_connections(settings: Settings) -> int:
    """How many there may be with the descriptors that can be had; exits with status 2 if that is next to none."""
    try:
        return make_room(settings.max_connections, settings.decoders if settings.decoding == "processes" else 0)
    except StartupError as error:
        _say([SettingError(error.detail)], {})
        raise typer.Exit(WRONG_SETTING) from None


def _say(faults: Iterable[SettingError], origins: Mapping[str, str]) -> None:
    for fault in faults:
        where = f"{origins.get(fault.setting, flag_of(fault.setting))}: " if fault.setting else ""
        typer.echo(f"mtlora serve: {printable(f'{where}{fault.detail}')}", err=True)


def _use_environment() -> None:
    if platform.libc_ver()[0] == "glibc" and not ENVIRONMENT.keys() <= os.environ.keys():
        os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _option(name: str, info: FieldInfo) -> inspect.Parameter:
    """A flag as text, whatever its kind: what is wrong with it is told as of a variable's, beside all other faults."""
    kind = bool if plain_kind(info) is bool else str
    flag = flag_of(name)
    words = [] if kind is bool else metavar(name, info).split("|")
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=info.description,
        show_default=False,
        metavar=None if kind is bool else metavar(name, info),
        autocompletion=_completion(words) if len(words) > 1 else None,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _completion(words: list[str]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


# One source of truth: the settings. Typer reads the signature, so the flags follow from it.
_OPTIONS = [_option(name, info) for name, info in Settings.model_fields.items() if name != FLAG_ONLY_ENVIRONMENT]
serve.__signature__ = inspect.Signature(_OPTIONS)  # type: ignore[attr-defined]
serve.__annotations__ = {option.name: option.annotation for option in _OPTIONS}
