"""The image's recipe; `make image-check` builds and runs it."""

import fnmatch
import os
import re
import tomllib

from app.cli import ENVIRONMENT
from testing.paths import ROOT
from tests.deploy.tools import needs, run

TEXT = (ROOT / "Dockerfile").read_text()
FINAL = TEXT[TEXT.rindex("FROM ") :]


@needs("hadolint")
def test_lint() -> None:
    run("hadolint", ROOT / "Dockerfile")


def test_the_environment_is_as_the_server_would_set_it() -> None:
    for name, value in ENVIRONMENT.items():
        assert f"{name}={value}" in FINAL


def test_the_final_stage_installs_nothing() -> None:
    assert not re.search(r"apt-get|pip ", FINAL)
    assert re.search(r"^USER \d+:\d+$", FINAL, re.MULTILINE), "a number, or Kubernetes cannot see that it is not root"


def test_whatever_is_copied_enters_the_build() -> None:
    """.dockerignore refuses all and lets in by name."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE):
        for source in sources.split():
            assert source in allowed
            assert (ROOT / source).exists()


def test_no_secret_and_no_cache_enters_the_build() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in rules
    assert not any(
        fnmatch.fnmatch(name, rule[1:])
        for name in (".git", ".env", "deploy", ".venv")
        for rule in rules
        if rule[0] == "!"
    )


def test_constraints_pin_what_is_built_from_another_index() -> None:
    pinned = (ROOT / "constraints.txt").read_text()
    assert re.search(r"^torch==", pinned, re.MULTILINE)
    assert re.search(r"^torchvision==", pinned, re.MULTILINE)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[><=]", item)[0] for item in needed} >= {"torch", "torchvision"}


def test_scripts_are_executable() -> None:
    assert os.access(ROOT / "scripts" / "image_check.sh", os.X_OK)
