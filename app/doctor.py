"""The command `mtlora doctor`: what a report of a fault needs, and which settings are wrong. No secret is shown."""

import importlib.metadata
import os
import platform
import re
import resource
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from app.cli import ENVIRONMENT, FAILED
from app.startup import preflight
from app.startup.paths import adapters_folder, backbone_file
from app.startup.setting_faults import Examined, examine, flag_of
from app.startup.settings import Settings
from mtlora.cli.say import say, say_json
from mtlora.version import __version__, commit
from mtlora.weights.bundled import BACKBONE_FILE, SUFFIX

PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "pillow", "pillow-heif", "safetensors", "fastapi", "starlette", "uvicorn",
    "h11", "pydantic", "pydantic-settings", "prometheus-client", "grpcio", "protobuf", "huggingface-hub", "obstore",
)  # fmt: skip
FEATURES = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "asimd",
    "bf16", "i8mm", "sve",
)  # fmt: skip
"""Of a processor, as Linux names them: those that decide which kernels run, and how fast."""

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
_FIELDS = Settings.model_fields
_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
_QUERY = re.compile(r"\?.*")

Facts = dict[str, str]
Report = dict[str, Facts]


def doctor(
    config: Annotated[Path | None, typer.Option(help="Configuration file of the server (TOML).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what a report of a fault needs: versions, processor, kernels, devices, settings, store, limits; no secrets.

    Settings are read as `mtlora serve` reads them, from MTLORA_* and --config. Exit status 1 if one of them is wrong.
    """
    examined = examine({} if config is None else {"config": config}, os.environ)
    report = diagnose(examined)
    problems = list(problems_of(examined))
    if as_json:
        say_json({**report, "problems": problems})
    else:
        for title, facts in report.items():
            say(title)
            for name, value in facts.items():
                say(f"  {name}: {value}")
        say("problems" if problems else "no problems found")
        for problem in problems:
            say(f"  {problem}")
    if problems:
        raise typer.Exit(FAILED)


def diagnose(examined: Examined) -> Report:
    """Facts by section; what cannot be found out says why."""
    return {
        "versions": versions(),
        "machine": machine(),
        "torch": of_torch(),
        "limits": limits(),
        "settings": shown_settings(examined),
        "files": files(examined.settings),
    }


def problems_of(examined: Examined) -> Iterator[str]:
    """What `mtlora serve` would refuse to start with, but for the port: that may be in use because it does serve."""
    found = list(examined.faults)
    if examined.settings is not None:
        found += [fault for fault in preflight.faults(examined.settings) if fault.setting not in examined.doubtful]
    for fault in found:
        where = f"{examined.origins.get(fault.setting, flag_of(fault.setting))}: " if fault.setting else ""
        secret = fault.setting in _FIELDS and not _FIELDS[fault.setting].repr
        yield f"{where}{fault.detail.partition(', got ')[0] if secret else fault.detail}"


def versions() -> Facts:
    """Of this project, Python and the packages that decide what it does."""
    found = {"mtlora": f"{__version__} ({commit() or 'commit unknown'})", "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> Facts:
    """Operating system, processor and memory."""
    lines = _lines(Path("/proc/cpuinfo"))
    flags = set(lines.get("flags", lines.get("Features", "")).split())
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": platform.platform(),
        "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        "processor": lines.get("model name", "") or platform.processor() or platform.machine(),
        "features": " ".join(name for name in FEATURES if name in flags) or "unknown",
        "cores": f"{os.cpu_count()}, {usable} usable",
        "memory": _size(memory),
        "huge pages": _text(HUGE_PAGES) or "unknown",
    }


def of_torch() -> Facts:
    """Kernels and devices, as the server would see them."""
    try:
        import torch

        from mtlora.kernels import status
    except (ImportError, OSError) as error:
        return {"torch": f"cannot be imported: {error}"}
    native = status()
    found = {
        "kernels": native.reason,
        "instruction set": native.instruction_set or "none: plain torch",
        "threads": str(torch.get_num_threads()),
        "cuda": torch.version.cuda or "not built in",
    }
    if not torch.cuda.is_available():
        return found | {"devices": "cpu"}
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        found[f"cuda:{number}"] = f"{about.name}, {_size(about.total_memory)}, {about.major}.{about.minor}"
    return found


def limits() -> Facts:
    """What the system allows this process, and how the allocator is set."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    found = {
        "open files": f"{_limit(files)}, at most {_limit(most)}",
        "address space": "unlimited" if space == resource.RLIM_INFINITY else _size(space),
        "memory of the control group": _text(MEMORY_LIMIT) or "unknown",
        "processors of the control group": _text(CPU_LIMIT) or "unknown",
    }
    set_here = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    shown = ", ".join(f"{name}={value}" for name, value in set_here.items())
    return found | {"allocator": shown or "as the system has it; mtlora serve sets its own"}


def shown_settings(examined: Examined) -> Facts:
    """Settings that were set, without those that are secret."""
    if examined.settings is None:
        return {"": "cannot be read, see problems"}
    found = {}
    for name, where in sorted(examined.origins.items()):
        value = without_credentials(str(getattr(examined.settings, name))) if _FIELDS[name].repr else "(set)"
        found[name] = f"{value}, by {where}"
    return found or {"": "all as they are by default"}


def files(settings: Settings | None) -> Facts:
    """Where weights and sets are looked for, and what is there."""
    if settings is None:
        return {}
    folder = adapters_folder(settings)
    backbone = backbone_file(settings)
    bundled = sorted(path.stem for path in folder.glob(f"*{SUFFIX}") if path.name != BACKBONE_FILE)
    found = {
        "backbone": f"{backbone} ({_size(backbone.stat().st_size) if backbone.is_file() else 'missing'})",
        "bundled sets": f"{folder} ({', '.join(bundled) or 'none'})",
    }
    return found | {"store": store_line(str(settings.store))}


def store_line(store: str) -> str:
    """A store in words: where it is, whether it can be written to, what room there is."""
    if "://" in store:
        return without_credentials(store)
    path = Path(store)
    existing = next((p for p in (path, *path.parents) if p.exists()), path)
    may = "can be written to" if os.access(existing, os.W_OK | os.X_OK) else "cannot be written to"
    there = "" if path.exists() else "not there yet, "
    sets = f"{sum(1 for _ in (path / 'sets').iterdir())} names, " if _is_listable(path / "sets") else ""
    return f"{path} ({there}{may}, {sets}{_size(shutil.disk_usage(existing).free)} free)"


def without_credentials(text: str) -> str:
    """Addresses without the user, the password and the parameters in them."""
    return _QUERY.sub("?…", _CREDENTIALS.sub("…@", text)) if "://" in text else text


def _is_listable(path: Path) -> bool:
    return path.is_dir() and os.access(path, os.R_OK | os.X_OK)


def _lines(path: Path) -> Mapping[str, str]:
    """The first `name : value` of every name in a file of Linux; nothing elsewhere."""
    found: dict[str, str] = {}
    for line in _text(path, whole=True).splitlines():
        name, separator, value = line.partition(":")
        if separator:
            found.setdefault(name.strip(), value.strip())
    return found


def _text(path: Path, *, whole: bool = False) -> str:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return ""
    return text if whole else " ".join(text.split())


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
