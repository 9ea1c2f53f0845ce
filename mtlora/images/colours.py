"""Colours of a photo made those of sRGB, by the profile that lies beside it."""

import io

from PIL import Image, ImageCms

_GREYS = 256
_FLAGS = ImageCms.Flags.NOCACHE
_SRGB = ImageCms.createProfile("sRGB")


class Colours:
    """What becomes of a picture's colours; without a profile nothing."""

    def __init__(self, profile: bytes = b"") -> None:
        """profile: see `container.profile.from_icc`, which made it"""
        self._greys = profile if len(profile) == _GREYS else b""
        self._change = None
        if profile and not self._greys:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            self._change = ImageCms.buildTransform(source, _SRGB, "RGB", "RGB", flags=_FLAGS)

    @property
    def change_rgb(self) -> bool:
        """Whether anything becomes of a picture of mode RGB."""
        return self._change is not None

    def in_srgb(self, image: Image.Image) -> Image.Image:
        """RGB, of an RGB or L picture; an RGB one itself where its colours are sRGB already."""
        if image.mode == "RGB":
            return image if self._change is None else self._change.apply(image)
        return (image.point(list(self._greys)) if self._greys else image).convert("RGB")
