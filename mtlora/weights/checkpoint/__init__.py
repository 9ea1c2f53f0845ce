"""Checkpoints of strangers, read without running anything in them: `.pth` in both containers, and `.safetensors`."""
