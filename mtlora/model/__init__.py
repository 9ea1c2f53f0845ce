"""The training model: Swin, low-rank pairs, decoders, put together as published."""
