"""Print the changelog's section of a release tag; refuse a tag that the code and the changelog do not agree with."""

import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def section(changelog: str, version: str) -> str:
    """What stands below `## 0.1.0 (2026-12-01)` or the like; empty if there is no such heading or nothing below it."""
    found = re.search(
        rf"^## \[?{re.escape(version)}\]?(?: [^\n]*)?$\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    return found[1].strip() if found else ""


def fault(tag: str, version: str, changelog: str) -> str:
    """What is wrong with a tag, in words; empty if nothing is."""
    if tag != f"v{version}":
        return f"the tag is {tag}, mtlora/version.py says {version}: the tag should be v{version}"
    if not section(changelog, version):
        return f"CHANGELOG.md has nothing below a heading '## {version}': rename Unreleased and give it the date"
    return ""


def main() -> int:
    """Take the tag from the command line."""
    tag = sys.argv[1] if len(sys.argv) == 2 else ""
    version = runpy.run_path(str(ROOT / "mtlora" / "version.py"))["__version__"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if wrong := fault(tag, version, changelog):
        print(wrong, file=sys.stderr)
        return 1
    print(section(changelog, version))
    return 0


if __name__ == "__main__":
    sys.exit(main())
