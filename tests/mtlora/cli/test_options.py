"""Ranks of single linears, as options of training say them."""

import json
from pathlib import Path

import pytest

from mtlora.cli.options import with_linear_ranks
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.tasks import Task
from testing.factories import adapter_spec

QKV, PROJ = "layers.0.blocks.0.attn.qkv", "layers.1.blocks.0.attn.proj"


def test_without_options_the_spec_stays() -> None:
    spec = adapter_spec()
    assert with_linear_ranks(spec, None, []) is spec


def test_a_file_and_single_ranks_that_win_over_it(tmp_path: Path) -> None:
    file = tmp_path / "ranks.json"
    file.write_text(json.dumps({"shared": {QKV: 7, PROJ: 6}, "tasks": {"semseg": {PROJ: 5}}}))
    spec = with_linear_ranks(adapter_spec(), file, [f"{QKV}=9", f"saliency:{PROJ}=0"])
    assert dict(spec.linear_ranks) == {QKV: 9, PROJ: 6}
    assert dict(spec.task(Task.SEMSEG).linear_ranks) == {PROJ: 5}
    assert dict(spec.task(Task.SALIENCY).linear_ranks) == {PROJ: 0}


@pytest.mark.parametrize(
    ("single", "message"),
    [
        (QKV, "LINEAR=N or TASK:LINEAR=N is needed"),
        (f"{QKV}=-1", "LINEAR=N or TASK:LINEAR=N is needed"),
        ("x=3", "no pair belongs at 'x'"),
        (f"sky:{PROJ}=3", "ranks of sky: the set has"),
    ],
)
def test_ranks_that_cannot_be_are_refused_in_words(single: str, message: str) -> None:
    with pytest.raises(MTLoRAError, match=message):
        with_linear_ranks(adapter_spec(), None, [single])


@pytest.mark.parametrize("text", ["", "[]", '{"layers": {}}', '{"shared": 1}', '{"tasks": {"semseg": 1}}'])
def test_files_that_say_no_ranks_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ranks.json"
    file.write_text(text)
    with pytest.raises(MTLoRAError, match="--ranks-file"):
        with_linear_ranks(adapter_spec(), file, [])
