"""A tag becomes a release only if the code and the changelog agree with it."""

import pytest

from scripts.release_notes import fault, section

CHANGELOG = """# Changelog

## Unreleased

## 0.2.0 (2027-01-31)

### Added
- Two.

## 0.1.0 (2026-12-01)
- One.
"""


@pytest.mark.parametrize(
    ("version", "text"),
    [("0.2.0", "### Added\n- Two."), ("0.1.0", "- One."), ("0.1", ""), ("0x2.0", ""), ("Unreleased", "")],
)
def test_a_section(version: str, text: str) -> None:
    assert section(CHANGELOG, version) == text


@pytest.mark.parametrize(
    ("tag", "version", "said"),
    [
        ("v0.2.0", "0.2.0", ""),
        ("v0.2.1", "0.2.0", "the tag is v0.2.1, mtlora/version.py says 0.2.0: the tag should be v0.2.0"),
        ("0.2.0", "0.2.0", "the tag is 0.2.0, mtlora/version.py says 0.2.0: the tag should be v0.2.0"),
        (
            "v0.3.0",
            "0.3.0",
            "CHANGELOG.md has nothing below a heading '## 0.3.0': rename Unreleased and give it the date",
        ),
    ],
)
def test_faults(tag: str, version: str, said: str) -> None:
    assert fault(tag, version, CHANGELOG) == said
