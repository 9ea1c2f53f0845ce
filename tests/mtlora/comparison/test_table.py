import xml.etree.ElementTree as ElementTree

import pytest

from mtlora.comparison.cells import Cell, Result, plan
from mtlora.comparison.picture import pareto_svg
from mtlora.comparison.table import make_rows, markdown, order_found
from mtlora.training.adapters.methods import Method
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.tasks import Task

TASKS = (Task.SEMSEG, Task.NORMALS)


def result(method: Method, rank: int, seed: int, semseg: float | None, normals: float | None, trained: int) -> Result:
    scores = {Task.SEMSEG: semseg, Task.NORMALS: normals}
    known = {task: score for task, score in scores.items() if score is not None}
    return Result(Cell(method, rank, seed), known, {"trained": trained}, 1.0)


def singles(seed: int = 0) -> list[Result]:
    return [result(Method.SINGLE, 0, seed, 0.5, None, 100), result(Method.SINGLE, 0, seed, None, 20.0, 300)]


def test_rows_have_delta_m_against_the_single_tasks() -> None:
    """Semseg 10 % better, normals 5 % better: delta m is 7.5."""
    rows = make_rows([*singles(), result(Method.MTLORA, 8, 0, 0.55, 19.0, 50)], TASKS)
    assert [row.title for row in rows] == ["single task", "MTLoRA r=8"]
    assert rows[0].trained == 400 and rows[0].deltas == [0.0]
    assert rows[1].deltas == [pytest.approx(7.5)]


def test_a_seed_counts_when_it_has_all_tasks() -> None:
    half = [*singles(), result(Method.SINGLE, 0, 1, 0.7, None, 100)]
    rows = make_rows(half, TASKS)
    assert rows[0].scores == {Task.SEMSEG: [0.5], Task.NORMALS: [20.0]}
    assert make_rows(half[2:], TASKS) == []


def test_without_single_tasks_there_is_no_delta_m() -> None:
    rows = make_rows([result(Method.FULL, 0, 0, 0.4, 22.0, 1000)], TASKS)
    assert rows[0].deltas == []
    assert "no single-task runs" in pareto_svg(rows)
    assert order_found(rows) == "No pair of runs to compare yet."


def example() -> list[Result]:
    return [
        *singles(),
        result(Method.FULL, 0, 0, 0.6, 18.0, 1000),
        result(Method.DECODERS, 0, 0, 0.3, 26.0, 10),
        result(Method.LORA, 8, 0, 0.45, 21.0, 40),
        result(Method.MTLORA, 8, 0, 0.50, 20.0, 50),
        result(Method.MTLORA, 8, 1, 0.56, 19.2, 50),
    ]


def test_the_table_as_markdown() -> None:
    rows = make_rows(example(), TASKS)
    lines = markdown(rows, TASKS).splitlines()
    assert lines[0] == "| method | semseg mIoU ↑ | normals ° ↓ | Δm % | trained | of full fine-tuning |"
    assert lines[3].startswith("| decoders only | 0.3000 | 26.00 | -35.0 | 0.000 M | 1.0%")
    assert lines[6] == "| MTLoRA r=8 | 0.5300 ± 0.0424 | 19.60 ± 0.57 | +4.0 ± 5.7 | 0.000 M | 5.0% |"
    assert order_found(rows).startswith("MTLoRA is ahead in 2 of 2 comparisons")


def test_the_picture_is_svg_with_every_method() -> None:
    root = ElementTree.fromstring(pareto_svg(make_rows(example(), TASKS)))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"single task", "full fine-tuning", "decoders only", "LoRA (TA only), r=8", "MTLoRA, r=8"} <= set(texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 5 + 5  # points, and the legend's


def test_ranks_of_a_method_are_joined_from_left_to_right() -> None:
    ranks = [result(Method.MTLORA, rank, 0, 0.5 + rank / 100, 20.0, 10 * rank) for rank in (4, 8, 16)]
    root = ElementTree.fromstring(pareto_svg(make_rows([*singles(), *ranks], TASKS)))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "MTLoRA, r=4, 8, 16" in texts
    lines = [element.attrib["points"].split() for element in root.iter("{http://www.w3.org/2000/svg}polyline")]
    joined = next(line for line in lines[1:] if len(line) == 3)
    across = [float(point.split(",")[0]) for point in joined]
    assert across == sorted(across)


def test_cells_are_named_and_come_seed_by_seed() -> None:
    cells = plan([Method.SINGLE, Method.FULL, Method.MTLORA_PLUS], [4, 8], [0, 1], TASKS)
    names = [cell.name for cell in cells]
    assert names[:5] == ["single-semseg-s0", "single-normals-s0", "full-s0", "mtlora-plus-r4-s0", "mtlora-plus-r8-s0"]
    assert len(set(names)) == 10 and names[5].endswith("s1")
    with pytest.raises(TrainingError, match="nothing to compare"):
        plan([Method.LORA], [], [0], TASKS)
