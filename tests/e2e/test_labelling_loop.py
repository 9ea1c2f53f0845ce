"""Label few, train, let the set label more, correct, train again, serve: docs/importing.md, small."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from testing.labelled_exports import Scene, save_photo, scenes, write_coco
from testing.paths import ROOT
from testing.serving import ServerProcess, Weights

pytestmark = pytest.mark.slow

BUNDLED = Weights(ROOT, ROOT / "adapters" / "backbone.safetensors", ROOT / "adapters", ROOT)
NAMES = ("disc", "square")
FIRST, NEXT = 6, 4
SMALL = ("--tasks", "semseg", "--image-side", "112", "--batch", "2", "--name", "shapes")


def mtlora(*words: object, url: str = "") -> str:
    """What a command says; it has to succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MTLORA_")}
    done = subprocess.run(
        [sys.executable, "-c", "from mtlora.cli.main import main; main()", *map(str, words)],
        env=environment | {"PYTHONPATH": str(ROOT)} | ({"MTLORA_URL": url} if url else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def corrected(predicted: Path, drawn: Path, made: Sequence[Scene]) -> dict[str, Any]:
    """What a tool exports of the predictions after somebody drew all of `made` again, as in the document `drawn`."""
    before, hand = json.loads(predicted.read_text()), json.loads(drawn.read_text())
    of_name = {category["name"]: category["id"] for category in before["categories"]}
    assert sorted(of_name) == list(NAMES)
    assert sorted(image["file_name"] for image in before["images"]) == sorted(f"{scene.name}.jpg" for scene in made)
    hand_name = {category["id"]: category["name"] for category in hand["categories"]}
    ids = {image["file_name"]: image["id"] for image in before["images"]}
    files = {image["id"]: image["file_name"] for image in hand["images"]}
    for number, one in enumerate(hand["annotations"]):
        one |= {"id": number, "category_id": of_name[hand_name[one["category_id"]]]}
        one["image_id"] = ids[files[one["image_id"]]]
    return {**before, "annotations": hand["annotations"]}


def test_from_a_coco_export_to_a_served_set(tmp_path: Path) -> None:
    made = scenes(FIRST + NEXT)
    first, following = tmp_path / "first", tmp_path / "next"
    first.mkdir()
    write_coco(first, made[:FIRST], NAMES, packed=True)
    said = mtlora("data", "import", "auto", first, tmp_path / "data1")
    assert "read as COCO JSON" in said
    assert "no problems" in mtlora("data", "check", tmp_path / "data1")
    mtlora("train", "--data", tmp_path / "data1", "--out", tmp_path / "run1", "--steps", "2", *SMALL)

    photos = [following / save_photo(scene, following) for scene in made[FIRST:]]
    adapter = tmp_path / "run1" / "adapter.safetensors"
    mtlora("predict", *photos, "--adapter", adapter, "--out", tmp_path / "pre", "--as", "coco")

    drawn = tmp_path / "drawn"
    drawn.mkdir()
    write_coco(drawn, made[FIRST:], NAMES, packed=True)
    document = corrected(
        tmp_path / "pre" / "coco.semseg.json", drawn / "annotations/instances_default.json", made[FIRST:]
    )
    (following / "corrected.json").write_text(json.dumps(document))
    both = tmp_path / "all"
    both.mkdir()
    first.rename(both / "first")
    following.rename(both / "next")
    said = mtlora("data", "import", "coco", both, tmp_path / "data2", "--split", "0.7")
    assert "photos: train 7, val 3" in said
    for scene in made:
        [path] = (tmp_path / "data2" / "semseg").glob(f"*{scene.name}.png")
        np.testing.assert_array_equal(np.asarray(Image.open(path)), scene.labels)

    again = ("--data", tmp_path / "data2", "--out", tmp_path / "run2", "--init", tmp_path / "run1", "--steps", "2")
    mtlora("train", *again, *SMALL)
    server = ServerProcess(BUNDLED, tmp_path / "store")
    try:
        server.wait_ready()
        mtlora("remote", "push", tmp_path / "run2" / "adapter.safetensors", url=server.url)
        asked = ("--adapter", "shapes", "--out", tmp_path / "served", "--as", "labelstudio")
        mtlora("remote", "predict", both / "next", *asked, url=server.url)
    finally:
        server.stop()
    tasks = json.loads((tmp_path / "served" / "labelstudio.semseg.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [f"/data/local-files/?d={s.name}.jpg" for s in made[FIRST:]]
    labels = {
        label for task in tasks for one in task["predictions"][0]["result"] for label in one["value"]["brushlabels"]
    }
    assert labels <= set(NAMES)
