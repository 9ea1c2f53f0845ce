"""The report of a finished run: report.html, the worst photos, confusion tables, curves."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtlora.data.layout import open_dataset
from mtlora.data.records import PhotoDataset
from mtlora.prediction.adapted import build_adapted
from mtlora.training.adapters.config import TrainConfig
from mtlora.training.adapters.methods import Unfreeze
from mtlora.training.report.curves import charts_of, curves_svg, save_curves
from mtlora.training.report.page import Page, page_html
from mtlora.training.report.review import Review, confusion_csv, review
from mtlora.training.report.strips import stacked
from mtlora.training.run.record import read_record
from mtlora.vocabulary.errors import DataError
from mtlora.weights.adapter_file import AdapterSet
from mtlora.weights.atomic import write_atomically
from mtlora.weights.backbone import Backbone

REPORT_FILE = "report.html"
WORST_FILE = "worst.png"

_USUAL_SPLIT = "val"


def write_report(config: TrainConfig, backbone: Backbone, adapter: AdapterSet) -> Path:
    """Look at what came out, on photos that it has not learned from where there are any; the page's path."""
    photos, learned = reviewed_photos(config)
    found = review(build_adapted(backbone, adapter), photos)
    for task, counts in found.confusion.items():
        _write(config.out / f"confusion-{task.value}.csv", confusion_csv(found.spec.task(task), counts))
    _save_worst(config.out, found)
    save_curves(config.out)
    page = Page(
        title=f"{config.name or config.out.name}: {', '.join(task.value for task in config.spec.task_names)}",
        review=found,
        photos=f"{len(photos)} photos of the split {photos.split!r}, seen as the service would see them.",
        curves=curves_svg(charts_of(config.out)),
        facts=_facts(config, adapter),
        commands=_commands(config, photos.split),
        notes=[_LEARNED] if learned else [],
    )
    return _write(config.out / REPORT_FILE, page_html(page))


_LEARNED = (
    "There is no validation split that fits: all scores here are of photos that the set has learned from, so they look "
    "too good. Name some photos in ImageSets/val.txt that are not in the training list."
)


def reviewed_photos(config: TrainConfig) -> tuple[PhotoDataset, bool]:
    """The photos of the report, and whether the run has learned from them."""
    split = _USUAL_SPLIT if config.validation is None else config.validation.split
    try:
        dataset = open_dataset(config.data, split, config.spec.task_names)
    except DataError:  # no such split, or labels are missing there: the run itself has read its own
        dataset = open_dataset(config.data, config.split, config.spec.task_names).spread(config.photos)
    return dataset.spread(config.report_photos), dataset.split == config.split


def _save_worst(folder: Path, found: Review) -> None:
    worst = found.worst()
    if worst:
        tasks = [task for task in found.spec.tasks if task.task in found.scores]
        picture = stacked([photo.strip for photo in worst], tasks)
        write_atomically(folder / WORST_FILE, lambda file: picture.save(file, format="PNG"))


def _write(path: Path, text: str) -> Path:
    write_atomically(path, lambda file: file.write(text.encode()))
    return path


def _facts(config: TrainConfig, adapter: AdapterSet) -> dict[str, str]:
    record = read_record(config.out)
    facts = {
        "began": str(record.get("at", "")),
        "command": _command(record),
        "resumed": ", ".join(f"{each['at']} after step {each.get('step', '?')}" for each in record.get("resumed", [])),
        "result": f"weights of step {adapter.manifest.provenance.get('steps')} of {config.loop.steps}",
        "recipe": _recipe(record.get("recipe", {})),
        "batch, side, peak rate": f"{config.batch} photos, {config.side} px, {config.loop.lr:.3g}",
        "seed": str(config.loop.seed),
        "photos": f"{record['photos']['count']} of the split {config.split!r}",
        "data, sha256": str(record.get("data_sha256", "")),
        "backbone, sha256": str(record.get("backbone_sha256", "")),
        "set, sha256": adapter.digest,
        "trained parameters": f"{record['parameters']['trained']:,} of {record['parameters']['total']:,}",
        "versions": ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
        "machine": ", ".join(f"{name} {value}" for name, value in record.get("machine", {}).items() if value),
    }
    return {name: value for name, value in facts.items() if value}


def _command(record: Mapping[str, Any]) -> str:
    program, *arguments = map(str, record.get("command", [""]))
    return shlex.join([Path(program).name, *arguments])


def _recipe(recipe: Mapping[str, Any]) -> str:
    if not recipe:
        return ""
    values = ", ".join(f"{name} {value}" for name, value in recipe["values"].items() if name != "name")
    given = ", ".join(recipe["given"]) or "nothing"
    situation = ", ".join(f"{name} {value}" for name, value in recipe["chosen_for"].items())
    return f"{recipe['values']['name']}, chosen for {situation}; given: {given}; so {values}"


def _commands(config: TrainConfig, split: str) -> list[str]:
    result, data = shlex.quote(str(config.out / "adapter.safetensors")), shlex.quote(str(config.data))
    if config.unfreeze is not Unfreeze.NONE:  # the set fits only the backbone beside it
        own = shlex.quote(str(config.out / "backbone.safetensors"))
        return [f"mtlora evaluate --data {data} --split {shlex.quote(split)} --backbone {own} --adapter {result}"]
    return [
        f"mtlora evaluate --data {data} --split {shlex.quote(split)} --adapter {result}",
        "mtlora serve                      # in another terminal: it stays",
        f"mtlora remote push {result}",
    ]
