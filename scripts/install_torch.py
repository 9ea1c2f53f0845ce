"""Install the torch that this machine can use into the environment that runs this: `make setup TORCH=cpu|cuda|default`.

Left to itself, pip takes PyPI's torch, on Linux the CUDA build. Where no NVIDIA driver is, the CPU build does the same
in a third of the space; it comes from an index of PyTorch's own. Nothing here fails because that index cannot be
reached: what is not installed here, the installation of the project takes from the usual index.
"""

import argparse
import http.client
import os
import shutil
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_SECONDS = 4.0
CHOICES = ("cpu", "cuda", "default")
PACKAGES = ("torch", "torchvision")
CPU_SPACE, USUAL_SPACE = "about 2 GB", "about 6 GB where that is the CUDA build"
# Who sets one of these has said where packages come from.
MIRROR_VARIABLES = ("PIP_INDEX_URL", "PIP_NO_INDEX")
MIRROR_SETTINGS = ("global.index-url", "install.index-url", "global.no-index", "install.no-index")
DRIVER = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvidia0")
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Machine(NamedTuple):
    """What the choice depends on."""

    linux: bool
    driver: bool
    mirror: str  # what names an index of the user's own; empty if nothing does
    installed: bool  # torch is there already
    reachable: Callable[[], bool]  # asked only when it matters, for that takes seconds


@dataclass(frozen=True)
class Choice:
    """Where torch comes from; an empty index leaves it to pip."""

    index: str
    why: str


def choose(wanted: str, machine: Machine) -> Choice:
    """Decide; `wanted` is empty or one of `CHOICES`."""
    if machine.installed:
        return Choice("", "torch is installed already and stays (make clean removes it)")
    if wanted in ("cuda", "default"):
        return Choice("", f"torch from the usual index, as TORCH={wanted} says: {USUAL_SPACE}")
    if not wanted and not machine.linux:
        return Choice("", "torch from the usual index, which has no CUDA in it for this system: about 2 GB")
    if not wanted and machine.driver:
        return Choice("", f"an NVIDIA driver is here: torch from the usual index, {USUAL_SPACE}")
    if not wanted and machine.mirror:
        return Choice("", f"pip has an index of yours ({machine.mirror}): torch from there, {USUAL_SPACE}")
    if not machine.reachable():
        return Choice("", f"{CPU_INDEX} cannot be reached: torch from the usual index, {USUAL_SPACE}")
    reason = "as TORCH=cpu says" if wanted else "no NVIDIA driver is here"
    return Choice(CPU_INDEX, f"{reason}: the CPU build of torch, {CPU_SPACE}")


def mirror_of(environment: Mapping[str, str], configuration: str) -> str:
    """The variable, or the setting in the output of `pip config list`, that names an index in PyPI's place."""
    for name in MIRROR_VARIABLES:
        if environment.get(name):
            return name
    settings = (line.partition("=")[0] for line in configuration.splitlines())
    return next((name for name in settings if name in MIRROR_SETTINGS), "")


def has_driver() -> bool:
    """Whether the machine has NVIDIA's driver, or tools that come with it."""
    return any(map(os.path.exists, DRIVER)) or shutil.which("nvidia-smi") is not None


def reachable(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether the page answers in time; proxies and certificates are those of the environment.

    In a thread, because looking up a name knows no timeout.
    """
    answered: list[bool] = []

    def ask() -> None:
        certificates = next(filter(None, map(os.environ.get, CERTIFICATES)), None)
        try:
            context = ssl.create_default_context(cafile=certificates)
            with urllib.request.urlopen(url, timeout=seconds, context=context) as answer:
                answered.append(answer.status == 200)
        except (OSError, ValueError, http.client.HTTPException):
            answered.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered == [True]


def pip(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run this environment's pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE)


def this_machine() -> Machine:
    """The machine that this runs on."""
    return Machine(
        linux=sys.platform.startswith("linux"),
        driver=has_driver(),
        mirror=mirror_of(os.environ, pip("config", "list").stdout),
        installed=find_spec("torch") is not None,
        reachable=lambda: reachable(f"{CPU_INDEX}/torch/"),
    )


def main() -> int:
    """Say what is chosen, and install torch if that is from another index than the rest."""
    parser = argparse.ArgumentParser(description="Install the torch that this machine can use.")
    parser.add_argument("wanted", nargs="?", default="", help=f"one of {', '.join(CHOICES)}; nothing: look")
    parser.add_argument("--constraint", type=Path, required=True, help="versions to take")
    given = parser.parse_args()
    if given.wanted and given.wanted not in CHOICES:
        parser.error(f"TORCH is cpu, cuda or default, got {given.wanted!r}")
    choice = choose(given.wanted, this_machine())
    print(choice.why, flush=True)
    if not choice.index:
        if not given.wanted:
            print("to choose: make clean setup TORCH=cpu, or TORCH=cuda, or TORCH=default (what pip takes)", flush=True)
        return 0
    # Without dependencies: that index has nothing else that is sure to be current.
    options = ["--quiet", "--no-deps", "--retries", "1", "--index-url", choice.index]
    if pip("install", *options, "--constraint", str(given.constraint), *PACKAGES).returncode:
        print(f"that did not work: torch from the usual index, {USUAL_SPACE}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
