"""The basis of every training run: the loop, checkpoints, logs, validation."""
