"""Masks as a COCO dataset: an annotation for each region, polygons; run lengths where a region has holes."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mtlora.annotations.outlines import Region, class_regions
from mtlora.annotations.predicted import PredictedPhoto
from mtlora.annotations.raster import polygon_mask
from mtlora.annotations.run_lengths import class_rle, find_runs


def to_dataset(photos: Iterable[PredictedPhoto], classes: Mapping[int, str]) -> dict[str, Any]:
    """A COCO document of many photos. Ids of categories are the classes' indices."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, photo in enumerate(photos, 1):
        height, width = photo.labels.shape
        images.append({"id": number, "file_name": photo.name, "width": width, "height": height})
        for mask in photo.masks:
            for region in class_regions(photo.labels, mask.number):
                annotation = _annotation(region, height, width)
                places = {"id": len(annotations) + 1, "image_id": number, "category_id": mask.number}
                annotations.append(places | annotation)
    return {
        "info": {"description": "predicted by MTLoRA"},
        "licenses": [],
        "images": images,
        "categories": [{"id": index, "name": name, "supercategory": ""} for index, name in classes.items()],
        "annotations": annotations,
    }


def _annotation(region: Region, height: int, width: int) -> dict[str, Any]:
    left, top = (int(value) for value in region.outer.min(axis=0))
    right, bottom = (int(value) for value in region.outer.max(axis=0))
    inside = np.zeros((height, width), np.uint8)
    polygon_mask(region.in_one_ring.astype(np.float64), height, width).draw(inside, 1)
    rings = [region.outer.ravel().tolist()]
    return {
        "segmentation": class_rle(find_runs(inside), 1) if region.holes else rings,
        "area": int(np.count_nonzero(inside)),
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
    }
