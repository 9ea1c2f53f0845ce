"""The engine: one thread that runs micro-batches of waiting images."""
