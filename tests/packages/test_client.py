"""The client alone: what it packs is what it imports, and it works where nothing else can be imported."""

import ast
import re
import sys
import tomllib
import zipfile
from importlib.metadata import PathDistribution, distribution, packages_distributions
from pathlib import Path
from typing import Any

import grimp
import pytest

from mtlora.version import __version__
from testing.paths import ROOT
from tests.packages.building import COMMIT, build, copy_of, environment_with, run, site_of, unpacked

FOLDER = ROOT / "packages" / "client"
START = "mtlora.cli.client"
PROJECT: dict[str, Any] = tomllib.loads((FOLDER / "pyproject.toml").read_text())
# Requirements for other systems and older Pythons are not here.
INSTALLED = {owner.lower().replace("_", "-") for owners in packages_distributions().values() for owner in owners}
SERVER: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def parts() -> dict[str, set[str]]:
    """The list in setup.py, which cannot be imported."""
    tree = ast.parse((FOLDER / "setup.py").read_text())
    values = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PARTS"
    ]
    found: dict[str, set[str]] = ast.literal_eval(values[0])
    return found


def packed() -> set[str]:
    """Modules in the distribution, by import name."""
    chosen = parts()
    modules = set()
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        folder = ROOT / package.replace(".", "/")
        for name in chosen.get(package, {path.stem for path in folder.glob("*.py")}):
            modules.add(package if name == "__init__" else f"{package}.{name}")
    return modules


def imported() -> tuple[set[str], set[str]]:
    """Modules of ours, and packages of others, that the client's modules import."""
    graph = grimp.build_graph("mtlora", include_external_packages=True, exclude_type_checking_imports=True)
    todo = {START, *(name for name in graph.modules if name.startswith("mtlora.client"))}
    ours: set[str] = set()
    others: set[str] = set()
    while todo:
        module = todo.pop()
        if module.partition(".")[0] != "mtlora":
            others.add(module)
        elif module not in ours:
            ours.add(module)
            todo |= graph.find_modules_directly_imported_by(module)
            if "." in module:
                todo.add(module.rpartition(".")[0])
    return ours, others - sys.stdlib_module_names


def test_it_packs_what_it_imports() -> None:
    assert packed() == imported()[0]


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


def test_it_declares_what_it_imports() -> None:
    owners = packages_distributions()
    needed = {owners[package][0].lower().replace("_", "-") for package in imported()[1]} - {"pydantic-core"}
    extras = PROJECT["project"]["optional-dependencies"].values()
    declared = [*PROJECT["project"]["dependencies"], *(each for extra in extras for each in extra)]
    assert {name_of(each) for each in declared} == needed
    assert not needed & {"torch", "torchvision", "timm", "safetensors"}


def test_bounds_are_the_servers() -> None:
    assert set(PROJECT["project"]["dependencies"]) <= set(SERVER["project"]["dependencies"])
    for key in ("license", "requires-python"):
        assert PROJECT["project"][key] == SERVER["project"][key]


def closure(names: list[str]) -> set[str]:
    """Distributions that these need, themselves included; as installed here."""
    todo, found = set(names), set()
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        lines = distribution(name).requires or []
        todo |= {name_of(line) for line in lines if "extra ==" not in line and name_of(line) in INSTALLED}
    return found


def link_distributions(names: set[str], site: Path) -> None:
    """Make exactly these importable in another environment: links to what each has at its top."""
    for name in names:
        found = distribution(name)
        assert isinstance(found, PathDistribution)
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from its source archive, as `python -m build` does."""
    folder = tmp_path_factory.mktemp("client")
    source = copy_of(FOLDER, folder / "checkout", symlinks=False)
    archive = build("sdist", source, folder / "archive", REVISION=COMMIT)
    return build("wheel", unpacked(archive, folder / "source"), folder / "wheel")


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with the client and what it declares, and nothing else."""
    python = environment_with(wheel, tmp_path_factory.mktemp("environment") / "venv")
    link_distributions(closure([name_of(each) for each in PROJECT["project"]["dependencies"]]), site_of(python))
    return python


@pytest.mark.slow
def test_the_wheel(wheel: Path) -> None:
    assert wheel.name == f"mtlora_client-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as opened:
        files = {name for name in opened.namelist() if name.startswith("mtlora/")}
    modules = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files if name.endswith(".py")
    }
    assert modules == packed()
    assert {name for name in files if not name.endswith(".py")} == {"mtlora/py.typed", "mtlora/commit.txt"}


@pytest.mark.slow
def test_it_works_without_torch(python: Path, tmp_path: Path) -> None:
    script = (
        "import importlib.util, mtlora, mtlora.client, mtlora.client.folder\n"
        "assert importlib.util.find_spec('torch') is None\n"
        "client = mtlora.client.Client('http://127.0.0.1:1', retry=mtlora.client.Retry(attempts=1))\n"
        "try:\n    client.status()\n"
        "except mtlora.client.UnreachableError: print('unreachable')\n"
        "try:\n    mtlora.predict\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    said = run([str(python), "-I", "-c", script], cwd=tmp_path).splitlines()
    assert said == ["unreachable", "No module named 'mtlora.prediction'"]


@pytest.mark.slow
def test_the_command_has_what_asks_a_server(python: Path, tmp_path: Path) -> None:
    program = str(python.with_name("mtlora"))
    assert run([program, "--version"], cwd=tmp_path) == f"mtlora {__version__} ({COMMIT[:12]})\n"
    assert set(re.findall(r"^\W*(bench|remote|serve|train)\b", run([program, "--help"]), re.MULTILINE)) == {
        "bench",
        "remote",
    }
    assert "rollback" in run([program, "remote", "--help"])
