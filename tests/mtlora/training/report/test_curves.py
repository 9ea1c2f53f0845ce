import xml.etree.ElementTree as ElementTree
from pathlib import Path

from mtlora.training.report.curves import CURVES_FILE, Chart, charts_of, curves_svg, save_curves
from mtlora.training.run.checkpoint import METRICS_FILE, VALIDATION_FILE

SVG = "{http://www.w3.org/2000/svg}"


def write_tables(folder: Path) -> None:
    (folder / METRICS_FILE).write_text(
        "step,lr,seconds_per_step,loss,semseg,normals,gradient_norm\n1,0.1,1.0,3.0,1.0,2.0,9\n2,0.05,1.0,nan,0.5,1,9\n"
    )
    (folder / VALIDATION_FILE).write_text("step,delta_m,semseg/miou,normals/mean_deg\n2,0,0.5,30\n")


def test_charts_of_both_tables(tmp_path: Path) -> None:
    write_tables(tmp_path)
    charts = {chart.title: chart.curves for chart in charts_of(tmp_path)}
    assert list(charts) == ["losses", "learning rate", "semseg, validation", "normals, validation"]
    assert charts["losses"] == {"loss": [(1, 3)], "semseg": [(1, 1), (2, 0.5)], "normals": [(1, 2), (2, 1)]}
    assert charts["normals, validation"] == {"mean_deg": [(2, 30)]}


def test_the_loss_of_the_only_task_is_drawn_once(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text("step,lr,loss,semseg\n1,0.1,3.0,3.0\n")
    assert list(charts_of(tmp_path)[0].curves) == ["semseg"]


def test_the_picture_is_sound_and_has_every_curve(tmp_path: Path) -> None:
    write_tables(tmp_path)
    save_curves(tmp_path)
    root = ElementTree.fromstring((tmp_path / CURVES_FILE).read_text())
    assert len(root.findall(f".//{SVG}polyline")) == 3 + 1 + 1 + 1
    words = {text.text for text in root.iter(f"{SVG}text")}
    assert {"losses", "semseg", "mean_deg"} <= words
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for group in root.findall(f"{SVG}g"):
        assert group.attrib["transform"].startswith("translate(")
    for line in root.iter(f"{SVG}polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width and 0 <= y <= height


def test_no_steps_yet(tmp_path: Path) -> None:
    assert charts_of(tmp_path) == []
    assert "no steps yet" in curves_svg([])


def test_names_are_text() -> None:
    assert "a&lt;b&gt;" in curves_svg([Chart("a<b>", {"x": [(0, 1), (1, 1)]})])


def test_a_curve_that_stays_has_a_range() -> None:
    assert "nan" not in curves_svg([Chart("flat", {"zero": [(0, 0), (1, 0)], "one": [(0, 0)]})])
