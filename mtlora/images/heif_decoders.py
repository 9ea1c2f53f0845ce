"""The decoders of AVIF and HEIC, each where it is installed: AVIF comes with Pillow, HEIC with `pillow-heif`."""

import contextlib
from importlib.util import find_spec

from PIL import AvifImagePlugin, features

HAS_AVIF = bool(features.check("avif"))
HAS_HEIC = find_spec("pillow_heif") is not None

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each more has a stack, and takes time that is counted all the same

if HAS_HEIC:
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
