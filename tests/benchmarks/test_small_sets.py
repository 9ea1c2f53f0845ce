from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.bench_training import DEFAULTS, STEPS, alternatives, table
from benchmarks.small_sets import SETS, SmallSet, Source, write_set
from mtlora.data.layout import open_dataset
from mtlora.training.adapters.recipe import RecipeName, Situation, recipe_for
from testing.tiny_dataset import write_dataset

PERSON, SKY, GROUND = 15, (0, 0, 0), (128, 0, 128)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Ten photos of a person each on both lists, sky in the upper half and ground in the lower."""
    root = write_dataset(tmp_path / "large", count=10, splits=("train",))
    (root / "ImageSets" / "val.txt").write_text("")
    rows = [f"photo{i},{'pseudo' if i < 5 else 'gt'},voc: x" for i in range(10)]
    (root / "meta.csv").write_text("\n".join(["id,semseg,source", *rows]) + "\n")
    normals = np.empty((10, 12, 3), dtype=np.uint8)
    normals[:5], normals[5:] = SKY, GROUND
    for i in range(10):
        Image.fromarray(normals).save(root / "normals" / f"photo{i}.png")
        photo = np.full((40, 48, 3), 200, dtype=np.uint8)
        Image.fromarray(photo).save(root / "JPEGImages" / f"photo{i}.jpg")
    return Source(root)


def small(like: SmallSet, **splits: dict[str, int]) -> SmallSet:
    return SmallSet("small", like.classes, splits, like.labels)


def test_people_first_the_labels_of_people(source: Source, tmp_path: Path) -> None:
    folder = write_set(small(SETS[0], test={"people": 5}, train={"people": 3}), source, tmp_path)
    test, train = (open_dataset(folder, split) for split in ("test", "train"))
    assert {record.id for record in test.records} == {f"photo{i}" for i in range(5, 10)}
    assert len(train) == 3 and not {r.id for r in train.records} & {r.id for r in test.records}
    with Image.open(folder / "semseg" / "photo7.png") as label:
        assert set(np.unique(np.asarray(label))) == {0, 1}


def test_sky_and_ground_from_the_normals(source: Source, tmp_path: Path) -> None:
    folder = write_set(small(SETS[1], train={"ground": 10}), source, tmp_path)
    with Image.open(folder / "semseg" / "photo0.png") as label:
        values = np.asarray(label)
    assert values.shape == (40, 48)
    assert (values[:8] == 1).mean() > 0.5 and (values[-8:] == 2).mean() > 0.5
    assert (values[14:18] != 1).all()  # the margin is left open


def test_too_few_photos_are_told(source: Source, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="too few photos for small: missing"):
        write_set(small(SETS[0], train={"people": 11}), source, tmp_path)


def test_the_alternatives_are_multiples_of_what_the_defaults_choose() -> None:
    for each in SETS:
        photos = sum(each.splits["train"].values())
        assert recipe_for(RecipeName.AUTO, Situation(photos, 1, 2, 224)).steps == STEPS[each.name]
        assert alternatives(each)[DEFAULTS] == []


def test_a_table_of_what_is_measured() -> None:
    run = {"scores": {"miou": 0.45}, "cpu_s": 120.0, "wall_s": 90.0, "others_cores": 0.5, "recipe": {"steps": 7}}
    by_hand = run | {"scores": {"miou": 0.5}, "options": ["--lr", "1"]}
    lines = table({"a": {DEFAULTS: run | {"options": []}, "by hand": by_hand}, "b": {DEFAULTS: run | {"options": []}}})
    assert "| a | defaults | 7 | 0.450 | 90.0% | 2.0 | 1.5 | 0.50 |" in lines
    assert "| a | by hand `--lr 1` | 7 | 0.500 | 100.0% |" in lines
    assert "| b | defaults | 7 | 0.450 |  | 2.0 |" in lines
