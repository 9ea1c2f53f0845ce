"""The classes of Cityscapes: which of its 34 label ids are trained, and what they are called."""

from mtlora.vocabulary.tasks import IGNORE_INDEX

TRAINED = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
    27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
"""The 19 classes of the benchmark by label id, in the order of its train ids. All other ids are not counted there."""
ENDINGS = ("_gtFine_labelIds", "_gtCoarse_labelIds", "_labelIds")
PHOTO_ENDING = "_leftImg8bit"
VALUES = {label: value for value, label in enumerate(TRAINED)}


def value_of(label: int) -> int:
    """The index among `TRAINED` of a label id; 255 of those that are not trained."""
    return VALUES.get(label, IGNORE_INDEX)
