"""The model card of an adapter set: what it is, what it needs, how it scored, how it is used. Markdown, for the Hub."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from mtlora.vocabulary.spec import TaskSpec
    from mtlora.weights.adapter_file import AdapterManifest

CARD_FILE = "README.md"
VALIDATION_FILE = "validation.csv"
_CLASSES_SHOWN = 30


def model_card(manifest: "AdapterManifest", *, digest: str, source: str, scores: Mapping[str, float]) -> str:
    """The card's text.

    digest: sha256 of the adapter file
    source: `hf://ORG/REPO/FILE` where it will be
    scores: {task/metric: value} on the validation split; empty where there are none
    """
    spec = manifest.spec
    title = manifest.name or source.removeprefix("hf://").split("/")[1]
    about = {
        "library_name": "mtlora",
        "tags": ["mtlora", "dense-prediction", *(task.value for task in spec.task_names)],
        "pipeline_tag": "image-segmentation",
    }
    parts = [
        f"---\n{yaml.safe_dump(about, sort_keys=False)}---",
        f"# {title}",
        "An adapter set of [MTLoRA](https://arxiv.org/abs/2403.20320) for the frozen backbone "
        f"`{manifest.backbone_name}`, at {spec.image_size} px. It is one `.safetensors` file and holds no code.",
        "## Tasks",
        "\n".join([*_row("task", "outputs", "decoder", "ranks"), *map(_task_row, spec.tasks)]),
        "\n".join(f"* {task.task.value}: {_classes(task)}" for task in spec.tasks if task.classes),
        "## Scores" if scores else "",
        "On the validation split, while training:" if scores else "",
        "\n".join([*_row("metric", "value"), *(f"| {name} | {value:.4g} |" for name, value in scores.items())])
        if scores
        else "",
        "## Use",
        f"```sh\nmtlora remote push {source} --name NAME     # to a running server\n```",
        f"It fits only a backbone with the fingerprint `{manifest.backbone_fingerprint}`.",
        "## Where it comes from",
        "\n".join([*_row("", ""), *(f"| {_cell(k)} | {_cell(v)} |" for k, v in manifest.provenance.items())]),
        f"sha256 of the file: `{digest}`",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def validation_scores(run: Path, step: object) -> dict[str, float]:
    """What a run's validation found at a step; empty where it did not look then.

    step: of the weights that became the set, as its provenance has it
    """
    path = run / VALIDATION_FILE
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("step") == str(step)]
    return {name: float(value) for name, value in rows[-1].items() if name != "step" and value} if rows else {}


def _row(*cells: str) -> list[str]:
    return ["| " + " | ".join(cells) + " |", "|" + "---|" * len(cells)]


def _task_row(task: "TaskSpec") -> str:
    ranks = " ".join(map(str, task.ranks))
    return f"| {task.task.value} | {task.outputs} | {task.decoder.value} | {ranks} |"


def _classes(task: "TaskSpec") -> str:
    names = [_cell(found.name) for found in task.classes]
    more = len(names) - _CLASSES_SHOWN
    return ", ".join(names[:_CLASSES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _cell(value: object) -> str:
    """Text of a file within a table: what Markdown would read as more than text is spelled out."""
    escaped = "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in str(value))
    return " ".join(escaped.split())
