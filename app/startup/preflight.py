"""Preflight checks of files, folders and device, before torch is imported. They change nothing."""

import difflib
import errno
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from app.core.errors import SettingError
from app.core.names import NAME
from app.startup import listening
from app.startup.cuda_driver import check_device
from app.startup.paths import adapters_folder, backbone_file
from app.startup.settings import Settings
from app.store.place import CLIENT, EXTRA, BucketPlace
from app.store.set_state import SetState
from app.telemetry.audit import open_to_append
from mtlora.vocabulary.errors import MTLoRAError, ProblemsError
from mtlora.vocabulary.spec import BackboneSpec
from mtlora.weights.adapter_file import check_shape, has_manifest, read_manifest
from mtlora.weights.backbone_header import read_backbone_spec
from mtlora.weights.bundled import BACKBONE_FILE, SUFFIX
from mtlora.weights.plain_files import open_plain

SHOWN_PROBLEMS = 3
SHOWN_CHARACTERS = 100
GRPC_NEEDS = {"grpc": "grpcio", "google.protobuf": "protobuf"}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}  # a full disk is no wrong setting: sets can be served, and deleted


def faults(settings: Settings) -> list[SettingError]:
    """Everything that is wrong, one fault for each setting at most."""
    return [fault for name, check in _CHECKS.items() if (fault := _fault_of(name, check, settings)) is not None]


def one_line(error: BaseException) -> str:
    """An error in one line, with the first few of its problems."""
    if not isinstance(error, ProblemsError) or not error.problems:
        return " ".join(str(error).split("\n"))
    rest = len(error.problems) - SHOWN_PROBLEMS
    shown = "; ".join(error.problems[:SHOWN_PROBLEMS]) + (f"; and {rest} more" if rest > 0 else "")
    return f"{error.summary}: {shown}"


def _fault_of(name: str, check: Callable[[Settings], None], settings: Settings) -> SettingError | None:
    try:
        check(settings)
    except SettingError as fault:
        return fault
    except OSError as error:  # a name that is too long, say
        where = f"{str(error.filename)[:SHOWN_CHARACTERS]}: " if error.filename else ""
        return SettingError(f"{where}{_reason(error)}", setting=name)
    return None


def _check_backbone(settings: Settings) -> None:
    if settings.backbone is None and not os.access(adapters_folder(settings), os.X_OK):
        return  # said of the folder
    path = backbone_file(settings)
    try:
        read_backbone_spec(path)
    except MTLoRAError as error:
        raise SettingError(one_line(error), setting="backbone") from error


def _check_adapters(settings: Settings) -> None:
    folder = adapters_folder(settings)
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except OSError as error:
        raise SettingError(f"{folder}: {_reason(error)}", setting="adapters") from error


def _check_default_adapter(settings: Settings) -> None:
    name, folder = settings.default_adapter, adapters_folder(settings)
    path = folder / f"{name}{SUFFIX}"
    if not os.access(folder, os.R_OK | os.X_OK):
        return  # said of the folder
    try:
        if path.is_file() and has_manifest(path):
            manifest = read_manifest(path)
            if (spec := _known_spec(settings)) is not None:
                check_shape(manifest, spec)
            return
    except MTLoRAError as error:
        raise SettingError(f"{name} cannot be served: {one_line(error)}", setting="default_adapter") from error
    if isinstance(settings.store, BucketPlace):
        return  # the server looks when it starts: nothing beyond this machine is asked here
    if not _may_be_stored(settings.store, name):
        names = _names(settings)
        near = difflib.get_close_matches(name, names, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        there = ", ".join(names) or f"none in {folder} or {settings.store}"
        raise SettingError(f"there is no adapter set {name!r}{meant}; sets found: {there}", setting="default_adapter")


def _known_spec(settings: Settings) -> BackboneSpec | None:
    try:
        return read_backbone_spec(backbone_file(settings))
    except MTLoRAError:
        return None  # said of the backbone


def _may_be_stored(store: Path, name: str) -> bool:
    """Whether an uploaded set of that name is there, or cannot be ruled out."""
    try:
        with open_plain(store / "sets" / name / "state.json") as file:
            return bool(SetState.model_validate_json(file.read()).revisions)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValidationError):
        return True


def _names(settings: Settings) -> list[str]:
    """Sets that the global name space has, by the names of their files."""
    bundled = {path.stem for path in adapters_folder(settings).glob(f"*{SUFFIX}") if path.name != BACKBONE_FILE}
    try:
        store = settings.store_folder
        stored = {path.name for path in (store / "sets").iterdir() if _may_be_stored(store, path.name)}
    except OSError:
        stored = set()
    return sorted(name for name in bundled | stored if NAME.fullmatch(name))


def _check_store(settings: Settings) -> None:
    store = settings.store
    if isinstance(store, BucketPlace):
        if importlib.util.find_spec(CLIENT) is None:
            raise SettingError(
                f"a store at {store} needs a package that is not installed: {CLIENT}; "
                f"pip install 'mtlora-server[{EXTRA}]', or name a folder",
                setting="store",
            )
        return
    for folder in (store, store / "sets", store / "incoming"):
        _check_writable("store", folder)
    lock = store / "lock"
    if lock.exists() and not os.access(lock, os.W_OK):
        raise SettingError(f"{lock}: permission denied", setting="store")


def _check_store_cache(settings: Settings) -> None:
    if isinstance(settings.store, BucketPlace):
        _check_writable("store_cache", settings.store_cache)


def _check_audit_log(settings: Settings) -> None:
    path = settings.audit_log
    if path is None:
        return
    try:
        if path.is_dir():
            raise SettingError(f"{path}: is a folder; name a file in it", setting="audit_log")
        if path.exists():
            os.close(open_to_append(str(path), os.O_WRONLY | os.O_APPEND))
        else:
            _check_writable("audit_log", path.parent)
    except OSError as error:
        unread = "nobody reads this pipe" if error.errno == errno.ENXIO else _reason(error)
        raise SettingError(f"{path}: {unread}", setting="audit_log") from error


def _check_writable(setting: str, folder: Path) -> None:
    """`SettingError` unless files can be made in the folder, or the folder itself where it is still missing."""
    there = folder
    try:
        while not os.path.lexists(there) and there != there.parent:
            there = there.parent
        if not there.is_dir():
            raise SettingError(
                f"{there}: is no folder" if there == folder else f"{folder}: {there} is no folder", setting=setting
            )
        with tempfile.TemporaryFile(dir=there):  # asking for permissions would not tell of read-only file systems
            pass
    except OSError as error:
        if error.errno not in _NO_ROOM:
            missing = "" if there == folder else f"cannot be made in {there}: "
            raise SettingError(f"{folder}: {missing}{_reason(error)}", setting=setting) from error


def _check_device(settings: Settings) -> None:
    if settings.device.startswith("cuda"):
        check_device(settings.device)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _check_grpc_port(settings: Settings) -> None:
    port = settings.grpc_port
    if port is None:
        return
    missing = [package for module, package in GRPC_NEEDS.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise SettingError(
            f"gRPC needs packages that are not installed: {', '.join(missing)}; "
            "pip install 'mtlora-server[grpc]', or leave the setting away",
            setting="grpc_port",
        )
    if port and port == settings.port:
        raise SettingError(f"gRPC needs a port of its own, {port} is that of HTTP", setting="grpc_port")
    try:
        listening.close(listening.bind(settings.host, port))
    except SettingError as fault:
        if fault.setting != "host":  # that is said of HTTP's port
            raise SettingError(fault.detail, setting="grpc_port") from None


_CHECKS: dict[str, Callable[[Settings], None]] = {
    "grpc_port": _check_grpc_port,
    "backbone": _check_backbone,
    "adapters": _check_adapters,
    "default_adapter": _check_default_adapter,
    "store": _check_store,
    "store_cache": _check_store_cache,
    "audit_log": _check_audit_log,
    "device": _check_device,
}
