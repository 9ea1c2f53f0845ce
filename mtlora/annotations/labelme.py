"""Masks as LabelMe's JSON, one file for a photo: a polygon for each region."""

from typing import Any

from mtlora.annotations.outlines import class_regions
from mtlora.annotations.predicted import PredictedPhoto


def to_labelme(photo: PredictedPhoto) -> dict[str, Any]:
    """The document of one photo. A hole is reached over a line that the polygon goes there and back."""
    height, width = photo.labels.shape
    shapes = [
        {
            "label": mask.name,
            "points": region.in_one_ring.tolist(),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for mask in photo.masks
        for region in class_regions(photo.labels, mask.number)
    ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": photo.name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
