"""Pages of the documentation as programs: their shell and Python blocks, in order, as one script."""

import re
from dataclasses import dataclass
from pathlib import Path

SHELLS = frozenset({"sh", "bash"})
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMISE = re.compile(r"# → (.+)$", re.MULTILINE)
"""A comment that says what is printed."""

HEAD = """
set -eu
curl() { command curl --silent --show-error --fail-with-body --max-time 120 "$@" || { echo "curl $*" >> "$FAILED"; return 1; }; }
"""  # noqa: E501 (pipes hide what fails in front of them, so failures are written down)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    text: str
    line: int

    def commands(self) -> list[str]:
        """Of a shell block: its lines, those that end in a backslash with the next."""
        return [command for command in re.split(r"(?<!\\)\n", self.text) if command.strip()]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page that are programs."""
    text = page.read_text(encoding="utf-8")
    found = [Block(match[1], match[2], text.count("\n", 0, match.start()) + 1) for match in FENCE.finditer(text)]
    return [block for block in found if block.language in {*SHELLS, "python"}]


def promises(page: Path) -> list[str]:
    """What the page says that its commands print."""
    return [promise.strip() for block in blocks_of(page) for promise in PROMISE.findall(block.text)]


def script_of(page: Path, folder: Path, not_run: list[re.Pattern[str]], prelude: str = "") -> str:
    """One shell script of all blocks; Python blocks lie beside it, each begins with `prelude`."""
    parts = [HEAD]
    for block in blocks_of(page):
        parts.append(f"echo '== {page.name}:{block.line}'")
        if block.language == "python":
            program = folder / f"line_{block.line}.py"
            program.write_text(prelude + block.text, encoding="utf-8")
            parts.append(f"python3 {program.name}")
        else:
            parts += [c for c in block.commands() if not any(pattern.search(c) for pattern in not_run)]
    return "\n".join(parts) + "\n"
