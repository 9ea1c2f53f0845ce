"""What a look at the validation split leaves in the folder of a run: a picture of some photos, and the curves."""

from pathlib import Path

from mtlora.data.records import PhotoDataset
from mtlora.prediction.predict import Predictor
from mtlora.training.report.curves import save_curves
from mtlora.training.report.strips import stacked, strip_of
from mtlora.weights.atomic import write_atomically

PHOTOS = 6
"""So many photos are shown, the same ones at every look."""


def look_file(step: int) -> str:
    """Name of the picture of a step."""
    return f"val-{step}.png"


def save_look(model: Predictor, photos: PhotoDataset, folder: Path, step: int) -> None:
    """Write val-STEP.png: some photos with truth and prediction; and curves.svg of what metrics.csv holds by now."""
    shown = photos.spread(PHOTOS)
    picture = stacked([strip_of(model, record, shown) for record in shown.records], model.spec.tasks)
    write_atomically(folder / look_file(step), lambda file: picture.save(file, format="PNG"))
    save_curves(folder)


def forget_looks(folder: Path) -> None:
    """Remove the pictures of a run that another one replaces."""
    for path in folder.glob("val-*.png"):
        path.unlink(missing_ok=True)
