"""The API of the Open Inference Protocol, version 2, under /v2."""
