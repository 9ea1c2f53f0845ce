"""The page report.html: what came out of a run, and how it was made; opens anywhere without a network."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from mtlora.metrics import HEADLINE
from mtlora.metrics.delta import LOWER_IS_BETTER
from mtlora.training.report.inline import inlined
from mtlora.training.report.review import Review, ReviewedPhoto, never_found, shares
from mtlora.training.report.strips import titles
from mtlora.training.report.style import STYLE
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the page is made of."""

    title: str
    review: Review
    photos: str  # which photos were looked at, in words
    curves: str  # SVG
    facts: Mapping[str, str]  # how the run was made
    commands: Sequence[str]  # what to do next
    notes: Sequence[str] = field(default_factory=tuple)  # what a reader should know before all else


SHOWN = 6
"""Photos that are shown whatever their scores."""

_BESIDE_PX = 700
"""Strips up to so wide stand two in a row."""


def page_html(page: Page) -> str:
    """The whole page."""
    review = page.review
    count = min(SHOWN, len(review.photos))
    some = [review.photos[i * len(review.photos) // count] for i in range(count)]
    worst = review.worst()
    pictures = inlined([photo.strip for photo in (*some, *worst)])
    tasks = [task for task in review.spec.tasks if task.task in review.scores]
    notes = [*page.notes, *_notes(review, tasks)]
    body = [
        f"<h1>{escape(page.title)}</h1>",
        *(f'<p class="note">{escape(note)}</p>' for note in notes),
        _section("Scores", f"<p>{escape(page.photos)}</p>{_scores(review, tasks)}"),
        _section("Curves", f'<div class="wide">{page.curves}</div>'),
        _section("Photo, truth, prediction", _legend(tasks) + _strips(some, pictures[: len(some)], tasks)),
        _section("The worst photos", _strips(worst, pictures[len(some) :], tasks)),
        *(_confusion(review, task) for task in tasks if task.classes),
        _section("How it was made", _facts(page.facts)),
        _section("What to do next", f"<pre>{escape(chr(10).join(page.commands))}</pre>"),
    ]
    return _document(page.title, body)


def _document(title: str, body: Iterable[str]) -> str:
    # the policy lets nothing be fetched, whatever stands in a name
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>",
            *body,
            "</main></body></html>\n",
        ]
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _notes(review: Review, tasks: Iterable[TaskSpec]) -> list[str]:
    notes = []
    for task in tasks:
        if task.classes and (lost := never_found(task, review.confusion[task.task])):
            names = ", ".join(lost)
            notes.append(
                f"{task.task.value}: {names} is labelled but predicted nowhere. Longer training, more photos that show "
                "it, or --class-balance 0.5 helps with rare classes."
            )
    return notes


def _scores(review: Review, tasks: Iterable[TaskSpec]) -> str:
    """A table of each task; classes that occur nowhere, and scores for old tables only, have no row."""
    tables = []
    for task in tasks:
        scores, name = review.scores[task.task], HEADLINE[task.task]
        better = f"{name}: {'lower' if task.task in LOWER_IS_BETTER else 'higher'} is better"
        others = {k: v for k, v in scores.items() if k != name and not k.startswith("reference_")}
        known = {k: v for k, v in others.items() if not (k.startswith("iou/") and math.isnan(v))}
        rows = [f"<tr><th>{escape(name)}</th>{_cell(scores[name], strong=True)}</tr>"]
        rows += [f"<tr><td>{escape(other)}</td>{_cell(value)}</tr>" for other, value in known.items()]
        if absent := len(others) - len(known):
            better += f"; {absent} more classes occur nowhere" if absent > 1 else "; 1 more class occurs nowhere"
        rows.append(f'<tr><td colspan="2" class="quiet">{better}</td></tr>')
        tables.append(f"<table><caption>{task.task.value}</caption>{''.join(rows)}</table>")
    return f'<div class="scores">{"".join(tables)}</div>'


def _cell(value: float, *, strong: bool = False) -> str:
    text = "–" if math.isnan(value) else f"{value:.4g}"
    bar = f' style="--share:{min(1.0, max(0.0, value)):.3f}"' if 0 <= value <= 1 else ""
    return f'<td class="number{" strong" if strong else ""}"{bar}>{text}</td>'


def _legend(tasks: Iterable[TaskSpec]) -> str:
    parts = []
    for task in tasks:
        chips = "".join(
            f'<span class="chip"><i style="background:rgb{c.color}"></i>{escape(c.name)}</span>' for c in task.classes
        )
        if chips:
            parts.append(f"<p>{task.task.value}: {chips}</p>")
    return "".join(parts) + '<p class="quiet">White: not labelled.</p>'


def _strips(photos: Sequence[ReviewedPhoto], pictures: Sequence[str], tasks: Sequence[TaskSpec]) -> str:
    if not photos:
        return "<p>No photo has a label that counts.</p>"
    spans = "".join(f"<span>{escape(name)}</span>" for name in titles(tasks))
    heads = f'<div class="heads">{spans}</div>'
    beside = max(photo.strip.width for photo in photos) <= _BESIDE_PX
    figures = "".join(
        f"<figure>{heads if beside else ''}"
        f'<img src="{picture}" alt="{escape(photo.id)}: {escape(", ".join(titles(tasks)))}">'
        f"<figcaption>{escape(photo.id)} <b>{escape(_told(photo.scores))}</b></figcaption></figure>"
        for photo, picture in zip(photos, pictures, strict=True)
    )
    if beside:
        return f'<div class="pairs">{figures}</div>'
    return f'<div class="wide"><div class="strips">{heads}{figures}</div></div>'


def _told(scores: Mapping[Task, float]) -> str:
    return ", ".join(f"{task.value} {HEADLINE[task]} {value:.3g}" for task, value in scores.items())


def _confusion(review: Review, task: TaskSpec) -> str:
    counts = review.confusion[task.task]
    seen = [k for k in range(len(counts)) if counts[k].sum() or counts[:, k].sum()]
    names = [escape(c.name) for c in task.classes]
    of_row = shares(counts)
    head = "".join(f"<th>{names[k]}</th>" for k in seen)
    rows = "".join(
        f"<tr><th>{names[k]}</th>"
        + "".join(f'<td class="number" style="--share:{of_row[k, j]:.3f}">{of_row[k, j]:.1%}</td>' for j in seen)
        + f'<td class="number quiet">{counts[k].sum():,}</td></tr>'
        for k in seen
    )
    table = f'<table class="confusion"><tr><td></td>{head}<td class="quiet">pixels</td></tr>{rows}</table>'
    words = "A row is what is labelled; its columns say as what it is predicted, in shares of the row's pixels."
    return _section(f"Confusion, {task.task.value}", f'<p class="quiet">{words}</p><div class="wide">{table}</div>')


def _facts(facts: Mapping[str, Any]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    return f"<dl>{rows}</dl>"
