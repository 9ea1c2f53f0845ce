"""Where the files are that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SAMPLES = DOCS / "samples"
GOLDEN = ROOT / "tests" / "data" / "golden"
GOLDEN_ADAMTL = ROOT / "tests" / "data" / "golden_adamtl"
