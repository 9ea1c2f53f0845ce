"""Masks as labelling tools write and read them: run lengths, outlines, documents. No torch, no files of photos."""
