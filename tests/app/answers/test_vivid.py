"""Colours by name: far apart within a set, the same in every set, and the same as the page's."""

import re

import numpy as np

from app.answers.vivid import PALETTE, place_of, vivid_colors
from mtlora.data.records import VOC_LABELS
from mtlora.vocabulary.tasks import Task
from testing.paths import ROOT

VOC = VOC_LABELS[Task.SEMSEG]


def test_classes_of_a_set_differ() -> None:
    colors = vivid_colors(VOC)
    assert colors.shape == (256, 3)
    assert len({tuple(color) for color in colors[: len(VOC)].tolist()}) == len(VOC)


def test_a_name_has_its_colour_in_every_set() -> None:
    person = vivid_colors(VOC)[VOC.index("person")]
    assert np.array_equal(person, vivid_colors(("background", "person"))[1])
    assert PALETTE[place_of("person")] == "12d6ff"


def test_more_classes_than_colours() -> None:
    names = tuple(f"class {i}" for i in range(40))
    colors = vivid_colors(names)
    assert len({tuple(color) for color in colors[:24].tolist()}) == 24
    assert PALETTE[place_of("class 39")] == bytes(colors[39]).hex()


def test_the_page_has_the_same_table() -> None:
    script = (ROOT / "app/web/static/js/look.js").read_text()
    table = script[script.index("PALETTE = [") : script.index("];")]
    assert tuple(re.findall(r"\b[0-9a-f]{6}\b", table)) == PALETTE
