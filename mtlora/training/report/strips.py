"""Strips: a photo, and for each task its truth and its prediction, side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from mtlora.data.classes import label_table
from mtlora.data.read import read_label
from mtlora.data.records import LabelArray, PhotoDataset, PhotoRecord
from mtlora.images.opening import open_photo
from mtlora.maps.postprocessing import Map
from mtlora.prediction.predict import Predictor, predict
from mtlora.training.report.colours import UNLABELLED, Colours, label_colours, map_colours
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import Task

PANEL_PX = 200
"""The longest side of a panel."""

WIDEST_PX = 1600
"""A strip of many tasks has smaller panels."""

_GAP_PX, _TITLE_PX = 4, 18


def known_labels(record: PhotoRecord, tasks: Sequence[TaskSpec], dataset: PhotoDataset) -> dict[Task, LabelArray]:
    """The labels that a photo has, in the set's classes, at their own size: [C, H, W]."""
    labels = {}
    for task in tasks:
        if task.task in record.labels:
            label = read_label(record.labels[task.task], task.task)
            table = label_table(task, dataset.classes.get(task.task, ()))
            labels[task.task] = table[label] if task.classes else label
    return labels


def strip(
    photo: Image.Image, tasks: Sequence[TaskSpec], labels: Mapping[Task, LabelArray], maps: Mapping[Task, Map]
) -> Image.Image:
    """Photo, then truth and prediction of every task; a task without a label has a blank instead."""
    count = 1 + 2 * len(tasks)
    longest = min(PANEL_PX, (WIDEST_PX + _GAP_PX) // count - _GAP_PX)
    scale = longest / max(photo.size)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    panels = [photo.resize(size, Image.Resampling.BICUBIC)]
    for task in tasks:
        label = labels.get(task.task)
        truth = None if label is None else label_colours(task, label)
        panels += [_panel(truth, size), _panel(map_colours(task, maps[task.task]), size)]
    whole = Image.new("RGB", (longest * count + _GAP_PX * (count - 1), size[1]), UNLABELLED)
    for column, panel in enumerate(panels):
        whole.paste(panel, (column * (longest + _GAP_PX), 0))
    return whole


def _panel(colours: Colours | None, size: tuple[int, int]) -> Image.Image:
    if colours is None:
        return Image.new("RGB", size, UNLABELLED)
    return Image.fromarray(np.ascontiguousarray(colours)).resize(size, Image.Resampling.NEAREST)


def strip_of(model: Predictor, record: PhotoRecord, dataset: PhotoDataset) -> Image.Image:
    """The strip of one photo as a model sees it now."""
    tasks = model.spec.tasks
    photo = open_photo(record.photo)
    return strip(photo, tasks, known_labels(record, tasks, dataset), predict(model, photo))


def titles(tasks: Sequence[TaskSpec]) -> list[str]:
    """What the panels of a strip are."""
    return ["photo", *(f"{task.task.value}: {what}" for task in tasks for what in ("truth", "prediction"))]


def stacked(strips: Sequence[Image.Image], tasks: Sequence[TaskSpec]) -> Image.Image:
    """Strips below each other, under a line that says what the panels are."""
    names = titles(tasks)
    width = max(each.width for each in strips)
    height = _TITLE_PX + sum(each.height + _GAP_PX for each in strips)
    whole = Image.new("RGB", (width, height), UNLABELLED)
    draw = ImageDraw.Draw(whole)
    for column, name in enumerate(names):
        draw.text((column * (width + _GAP_PX) / len(names) + 2, 3), name, fill=(0, 0, 0))
    top = _TITLE_PX
    for each in strips:
        whole.paste(each, (0, top))
        top += each.height + _GAP_PX
    return whole
