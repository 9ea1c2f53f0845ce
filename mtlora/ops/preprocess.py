"""Preprocessing: a photo becomes the model's input, upright RGB, S x S, normalised."""

import torch
from PIL import Image
from torch import Tensor

from mtlora.images.photo import Photo, to_rgb
from mtlora.images.resampling import Levels, square
from mtlora.kernels import kernels
from mtlora.vocabulary.spec import AdapterSpec


def preprocess(photo: Photo | Image.Image, spec: AdapterSpec) -> Tensor:
    """The model's input for one photo.

    photo:   any size and mode
    returns: float32 [3, S, S], resized with bicubic interpolation (aspect ratio not kept), /255, minus mean, over std
    """
    return _resized(photo, spec.image_size, spec.antialias, Levels.normalising(spec.mean, spec.std))


def resize(photo: Photo | Image.Image, side: int, *, antialias: bool) -> Tensor:
    """A photo as float32 [3, side, side] on the scale 0..255; see `images.resampling.square`."""
    return _resized(photo, side, antialias, Levels())


def _resized(photo: Photo | Image.Image, side: int, antialias: bool, levels: Levels) -> Tensor:
    upright = photo if isinstance(photo, Photo) else Photo(to_rgb(photo))
    return torch.from_numpy(square(upright, side, levels, antialias=antialias, native=kernels()))
