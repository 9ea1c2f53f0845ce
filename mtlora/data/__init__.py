"""Datasets: layouts, labels, cache, augmentation."""
