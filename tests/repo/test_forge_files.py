"""Workflows, templates and the like are what their schemas say, and name what is there. Nothing here runs them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from testing.paths import ROOT
from tests.deploy.tools import needs, run

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
USES = re.compile(r"^\s*-? ?uses: (\S+)$", re.MULTILINE)
SCHEMAS = [
    *(("vendor.github-workflows", path) for path in WORKFLOWS),
    ("vendor.github-actions", GITHUB / "actions" / "install" / "action.yml"),
    ("vendor.dependabot", GITHUB / "dependabot.yml"),
    ("vendor.github-issue-config", GITHUB / "ISSUE_TEMPLATE" / "config.yml"),
    *(("vendor.github-issue-forms", GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml") for name in ("bug", "feature")),
]


def name(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value)


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@needs("check-jsonschema")
@pytest.mark.parametrize(("schema", "path"), SCHEMAS, ids=name)
def test_schemas(schema: str, path: Path) -> None:
    run("check-jsonschema", "--builtin-schema", schema, path)


@pytest.mark.parametrize("path", [*WORKFLOWS, GITHUB / "actions" / "install" / "action.yml"], ids=name)
def test_actions_are_pinned_or_our_own(path: Path) -> None:
    for used in USES.findall(path.read_text()):
        if used.startswith("./"):
            assert (ROOT / used).exists()
        else:
            assert re.fullmatch(r"[\w./-]+@v\d+\.\d+\.\d+", used), used


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_rights_are_few(path: Path) -> None:
    """Nothing may write unless a job of the release says so; every job that runs has a time limit."""
    workflow = parsed(path)
    assert workflow["permissions"] == {"contents": "read"}
    for title, job in workflow["jobs"].items():
        assert path.name == "release.yml" or "permissions" not in job, title
        assert "uses" in job or "timeout-minutes" in job, title


def test_targets_and_scripts_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for path in WORKFLOWS:
        text = path.read_text()
        for script in re.findall(r"scripts/\w+\.\w+", text):
            assert (ROOT / script).exists(), script
        for target in re.findall(r"(?:target: |\bmake )([a-z][a-z-]+)$", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_hooks_are_the_tools_of_make_check() -> None:
    (repository,) = parsed(ROOT / ".pre-commit-config.yaml")["repos"]
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    for hook in repository["hooks"]:
        program, *arguments = hook["entry"].split()
        command = " ".join(["$(BIN)/" + Path(program).name, *(part for part in arguments if not part.startswith("-"))])
        assert command in check, command


def test_all_pythons_are_tried() -> None:
    pythons = parsed(GITHUB / "workflows" / "make.yml")["jobs"]["linux"]["strategy"]["matrix"]["python"]
    lowest = re.search(r'requires-python = ">=(3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert lowest is not None
    assert pythons[0] == lowest[1]
    built = re.findall(r"\bcp3(\d+)-\*", (GITHUB / "workflows" / "release.yml").read_text())
    assert [f"3.{minor}" for minor in built] == pythons
