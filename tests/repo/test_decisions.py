"""Decisions are never edited; one that no longer holds says so in one line, and its successor says the same back."""

import re
from pathlib import Path

import pytest

from testing.paths import DOCS

FOLDER = DOCS / "decisions"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))
LINE = re.compile(r"^(Superseded by|Supersedes): (.+)$", re.MULTILINE)
LINK = re.compile(r"\[(\d+)\]\((\d{4}-[a-z0-9-]+\.md)\)")
BACK = {"Superseded by": "Supersedes", "Supersedes": "Superseded by"}


def relations(page: Path) -> list[tuple[str, str]]:
    """What a page says of others: (relation, file name)."""
    found = []
    for relation, targets in LINE.findall(page.read_text()):
        links = LINK.findall(targets)
        assert re.sub(r", ", "", LINK.sub("", targets)) == "", f"only links, with commas between: {targets}"
        assert links, targets
        for number, target in links:
            assert int(target[:4]) == int(number), target
            found.append((relation, target))
    return found


def faults(folder: Path) -> list[str]:
    """What does not fit together among the decisions of a folder."""
    pages = sorted(folder.glob("[0-9]*.md"))
    said = {(page.name, relation, target) for page in pages for relation, target in relations(page)}
    names = {page.name for page in pages}
    wrong = [f"{page}: {target} is not there" for page, _, target in said if target not in names]
    wrong += [
        f"{target} lacks '{BACK[relation]}: {page}'"
        for page, relation, target in said
        if target in names and (target, BACK[relation], page) not in said
    ]
    wrong += [
        f"{page} supersedes a later one" for page, relation, other in said if relation == "Supersedes" and other > page
    ]
    return sorted(wrong)


def test_numbers_are_used_once() -> None:
    numbers = [page.name[:4] for page in PAGES]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_head_of_a_page(page: Path) -> None:
    title, blank, *rest = page.read_text().splitlines()
    assert re.match(rf"# {int(page.name[:4])}\. \S", title)
    assert blank == ""
    head = "\n".join(rest).partition("\n\n")[0]
    assert re.fullmatch(r"Date: \d{4}-\d\d-\d\d(\n(Superseded by|Supersedes): .+)*", head), head


def test_successors_and_predecessors_name_each_other() -> None:
    assert faults(FOLDER) == []


def test_a_link_that_goes_one_way_is_found(tmp_path: Path) -> None:
    old, new = tmp_path / "0001-old.md", tmp_path / "0002-new.md"
    old.write_text("# 1. Old\n\nDate: 2026-01-01\nSuperseded by: [2](0002-new.md)\n\nText.\n")
    new.write_text("# 2. New\n\nDate: 2026-01-02\n\nText.\n")
    assert faults(tmp_path) == ["0002-new.md lacks 'Supersedes: 0001-old.md'"]
    new.write_text("# 2. New\n\nDate: 2026-01-02\nSupersedes: [1](0001-old.md)\n\nText.\n")
    assert faults(tmp_path) == []
    new.unlink()
    assert faults(tmp_path) == ["0001-old.md: 0002-new.md is not there"]
