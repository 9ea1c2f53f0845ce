"""The results of a comparison: results.json, the Pareto picture, and its part of a page."""

import json
from collections.abc import Sequence
from pathlib import Path

from mtlora.comparison.cells import Result
from mtlora.comparison.picture import pareto_svg
from mtlora.comparison.table import make_rows, markdown, order_found
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.tasks import Task
from mtlora.weights.atomic import write_atomically

RESULTS_FILE, TABLE_FILE, PICTURE_FILE = "results.json", "results.md", "pareto.svg"
BEGIN, END = "<!-- compare: begin -->", "<!-- compare: end -->"


def write_report(results: Sequence[Result], tasks: Sequence[Task], folder: Path, facts: Sequence[str]) -> str:
    """Write table, picture and numbers into `folder`; returns the table with its facts as Markdown."""
    rows = make_rows(results, tasks)
    text = "\n\n".join([markdown(rows, tasks), order_found(rows), "\n".join(f"* {fact}" for fact in facts)])
    plain = [
        {
            "method": row.method.value,
            "rank": row.rank,
            "scores": {task.value: values for task, values in row.scores.items()},
            "delta_m": row.deltas,
            "trained": row.trained,
        }
        for row in rows
    ]
    _write(folder / RESULTS_FILE, json.dumps({"facts": list(facts), "rows": plain}, indent=2) + "\n")
    _write(folder / TABLE_FILE, text + "\n")
    _write(folder / PICTURE_FILE, pareto_svg(rows))
    return text


def fill_page(page: Path, text: str, picture: Path) -> None:
    """Put the table between the page's two marks, and the picture beside it in images/."""
    try:
        content = page.read_text(encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"cannot read the page {page}: {error}") from error
    if content.count(BEGIN) != 1 or content.count(END) != 1:
        raise TrainingError(f"{page} must have one {BEGIN} and one {END}, between which the table goes")
    name = f"images/{page.stem}-{PICTURE_FILE}"
    _write(page.parent / name, picture.read_text(encoding="utf-8"))
    before, after = content.split(BEGIN)[0], content.split(END)[1]
    image = f"![Trained parameters against Δm]({name})"
    _write(page, f"{before}{BEGIN}\n{text}\n\n{image}\n{END}{after}")


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))
