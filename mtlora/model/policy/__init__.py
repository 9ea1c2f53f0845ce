"""Policies: networks that decide, image by image, which parts of the encoder are computed, and the plans made of it."""
