import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mtlora.training.report.page import SHOWN, Page, page_html
from mtlora.training.report.review import Review, ReviewedPhoto
from mtlora.vocabulary.spec import AdapterSpec, TaskSpec, palette_classes
from mtlora.vocabulary.tasks import Task
from testing.factories import adapter_spec

NASTY = '<script src="https://example.org/x.js">&"'


def spec() -> AdapterSpec:
    names = palette_classes(("ground", NASTY))
    return adapter_spec(tasks=(Task.NORMALS,)).model_copy(
        update={"tasks": (TaskSpec.make(Task.SEMSEG, classes=names, ranks=(2, 2, 2, 2)),)}
    )


def page(photos: int = 20, width: int = 608, counts: tuple[tuple[int, int], ...] = ((5, 1), (2, 2))) -> Page:
    shown = tuple(
        ReviewedPhoto(f"{NASTY}{i}", {Task.SEMSEG: i / 100}, Image.new("RGB", (width, 8))) for i in range(photos)
    )
    scores = {"miou": 0.5, f"iou/{NASTY}": math.nan, "max_f": math.nan, "reference_miou": 0.4}
    found = Review(spec(), shown, {Task.SEMSEG: scores}, {Task.SEMSEG: np.array(counts)})
    facts, commands = {"command": NASTY}, [f"mtlora evaluate {NASTY}"]
    return Page(title=NASTY, review=found, photos="some", curves="<svg/>", facts=facts, commands=commands)


class Outside(HTMLParser):
    """Collects whatever a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]


def read(html: str) -> Outside:
    found = Outside()
    found.feed(html)
    return found


def test_nothing_is_fetched_and_nothing_runs() -> None:
    """Whatever stands in names of classes, photos and files."""
    html = page_html(page())
    found = read(html)
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert found.sources and all(source.startswith("data:image/jpeg;base64,") for source in found.sources)
    assert "default-src 'none'" in html and "url(" not in html and "@import" not in html
    assert html.count("&lt;script") > 5


@pytest.mark.parametrize(("photos", "shown"), [(1, 1), (SHOWN, SHOWN), (SHOWN + 1, SHOWN), (20, SHOWN)])
def test_some_photos_and_the_worst_ten(photos: int, shown: int) -> None:
    assert read(page_html(page(photos))).tags.count("img") == shown + min(photos, 10)


def test_wide_strips_stand_below_each_other() -> None:
    assert 'class="pairs"' in page_html(page()) and 'class="pairs"' not in page_html(page(width=1600))
    assert page_html(page(width=1600)).count('class="heads"') == 2  # once for some, once for the worst


def test_scores_that_are_no_numbers_and_those_for_old_tables() -> None:
    """A class that occurs nowhere is counted instead of listed; another score without a number is a dash."""
    html = page_html(page())
    assert "nan" not in re.sub('base64,[^"]*', "", html).lower() and '<td>max_f</td><td class="number">–</td>' in html
    assert "miou: higher is better; 1 more class occurs nowhere" in html
    assert "reference_miou" not in html


def test_a_class_that_is_never_predicted_is_told_above_all_else() -> None:
    assert "predicted nowhere" not in page_html(page())
    html = page_html(page(counts=((5, 0), (2, 0))))
    assert html.index("is labelled but predicted nowhere") < html.index("<h2>")


def test_no_photo_counts() -> None:
    assert "No photo has a label that counts." in page_html(page(0))
