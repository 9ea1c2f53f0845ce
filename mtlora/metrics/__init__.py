"""Metrics of the dense tasks: correct by default, `reference_*` where published numbers are made otherwise."""

from mtlora.metrics.delta import delta_m
from mtlora.metrics.meters import HEADLINE, Meter, Scores, build_meter
from mtlora.metrics.segmentation import mean_iou, reference_mean_iou

__all__ = ["HEADLINE", "Meter", "Scores", "build_meter", "delta_m", "mean_iou", "reference_mean_iou"]
