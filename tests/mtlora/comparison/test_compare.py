from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mtlora.cli.main import cli
from mtlora.comparison.page import BEGIN, END, fill_page
from mtlora.vocabulary.errors import TrainingError
from mtlora.weights.backbone import save_backbone
from testing.factories import backbone_spec, make_backbone
from testing.tiny_dataset import write_dataset


@pytest.mark.slow
def test_the_command_runs_what_is_missing_and_fills_a_page(tmp_path: Path) -> None:
    data, out, page = write_dataset(tmp_path / "data"), tmp_path / "run", tmp_path / "results.md"
    save_backbone(make_backbone(backbone_spec(window_size=2)), tmp_path / "backbone.safetensors", torch.float16)
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    arguments = [
        "compare",
        "--data",
        str(data),
        "--out",
        str(out),
        "--backbone",
        str(tmp_path / "backbone.safetensors"),
    ]
    arguments += ["--cache", str(tmp_path / "cache"), "--tasks", "normals", "--image-size", "64", "--steps", "2"]
    arguments += [
        "--batch",
        "2",
        "--decoder-channels",
        "4,4,4,4",
        "--task-rank",
        "2",
        "--ranks",
        "2",
        "--val-photos",
        "2",
    ]
    arguments += ["--device", "cpu", "--photos", "4", "--lr", "1e-3", "--image-side", "32", "--page", str(page)]
    result = CliRunner().invoke(cli, [*arguments, "--methods", "single,mtlora"])
    assert result.exit_code == 0, result.output
    assert "1/2 single-normals-s0: normals mean_deg" in result.stdout
    assert "| MTLoRA r=2 |" in result.stdout and "| single task |" in result.stdout
    assert {path.name for path in out.iterdir()} == {"cells", "results.json", "results.md", "pareto.svg"}
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "MTLoRA r=2" in text
    assert (tmp_path / "images" / "results-pareto.svg").is_file()

    checkpoint = out / "cells" / "mtlora-r2-s0" / "checkpoint.pt"
    written = checkpoint.stat().st_mtime_ns
    again = CliRunner().invoke(cli, [*arguments, "--methods", "single,mtlora"])
    assert "2/2 mtlora-r2-s0: done before" in again.stdout and checkpoint.stat().st_mtime_ns == written
    report = CliRunner().invoke(cli, [*arguments, "--methods", "single,mtlora,full", "--report-only"])
    assert report.exit_code == 0 and "2 of 3 runs" in report.stdout


def test_pages_without_marks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("text")
    with pytest.raises(TrainingError, match="must have one"):
        fill_page(tmp_path / "page.md", "table", tmp_path / "x.svg")
    with pytest.raises(TrainingError, match="cannot read the page"):
        fill_page(tmp_path / "none.md", "table", tmp_path / "x.svg")


@pytest.mark.parametrize(
    ("option", "value", "told"), [("--ranks", "4,x", "whole numbers"), ("--methods", "magic", "one of")]
)
def test_wrong_options_are_told(option: str, value: str, told: str, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", count=2)
    result = CliRunner().invoke(cli, ["compare", "--data", str(data), "--out", str(tmp_path / "run"), option, value])
    assert result.exit_code == 1 and told in str(result.exception)
