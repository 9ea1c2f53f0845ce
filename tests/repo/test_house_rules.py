"""The rules of CONTRIBUTING.md that linters do not know."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testing.paths import ROOT

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
SOURCES = sorted(path for package in ("mtlora", "app") for path in (ROOT / package).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "adapters").glob("*.md")])
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_functions_and_raises(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.body[0].lineno + 1  # a command's options are its signature, not its length
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and path.name != "main.py":
            assert node.exc.args or node.exc.keywords, f"line {node.lineno}: an error without a message"
    assert ast.get_docstring(tree) or not text.strip(), "a module says in one line what it is for"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    broken = [target for target in LINK.findall(path.read_text()) if not (path.parent / target).exists()]
    assert broken == []


def test_library_start_up_is_light() -> None:
    """Help must not wait for torch."""
    script = "import sys, mtlora.cli.main; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


def test_library_never_imports_the_service() -> None:
    for path in (ROOT / "mtlora").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) app\b", path.read_text(), re.MULTILINE), path
