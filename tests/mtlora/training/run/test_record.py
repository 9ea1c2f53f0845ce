import json
from pathlib import Path

import pytest

from mtlora.data.cache import cached
from mtlora.data.layout import open_dataset
from mtlora.training.run.record import RECORD_FILE, data_digest, read_record, write_record
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.tasks import Task
from testing.tiny_dataset import write_dataset
from testing.training_runs import train_config


def test_a_record_is_of_the_run_that_made_the_result(tmp_path: Path) -> None:
    """One that begins replaces another's; one that goes on adds its command and the steps that were done."""
    data = write_dataset(tmp_path / "data")
    photos = cached(open_dataset(data, "train"), (Task.SEMSEG,), 64, tmp_path / "cache")
    first, second = (train_config(data, tmp_path / "b", tmp_path, steps) for steps in (3, 5))
    write_record(tmp_path, first, photos, {"more": 1})
    write_record(tmp_path, first, photos, {"more": 1}, step=2)
    record = read_record(tmp_path)
    assert record["settings"]["loop"]["steps"] == 3 and record["more"] == 1 and record["photos"]["count"] == 6
    assert [resumed["step"] for resumed in record["resumed"]] == [2]
    write_record(tmp_path, second, photos, {})
    record = read_record(tmp_path)
    assert record["settings"]["loop"]["steps"] == 5 and "resumed" not in record


@pytest.mark.parametrize(("text", "told"), [("{", "cannot be read as the record"), ("[1]", "it holds list")])
def test_a_damaged_record_is_told(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / RECORD_FILE).write_text(text)
    with pytest.raises(TrainingError, match=told):
        read_record(tmp_path)
    (tmp_path / RECORD_FILE).unlink()
    with pytest.raises(TrainingError, match=r"run\.json cannot be read"):
        read_record(tmp_path)


def test_other_data_has_another_digest(tmp_path: Path) -> None:
    """Of the files' content; where they lie does not count, and labels count as photos do."""
    one, two = (open_dataset(write_dataset(tmp_path / name), "train") for name in ("one", "two"))
    digest = data_digest(one)
    assert digest == data_digest(two) and len(digest) == 64
    label = tmp_path / "two" / "semseg" / "photo0.png"
    label.write_bytes((tmp_path / "one" / "semseg" / "photo1.png").read_bytes())
    assert data_digest(two) != digest
    assert data_digest(one.spread(3)) != digest
    json.dumps(digest)
