"""Weights on disk: adapter files, backbone files, published checkpoints, bundled files."""
