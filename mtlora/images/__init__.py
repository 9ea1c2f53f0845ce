"""Photos before the model: file contents, pixels upright and in RGB, the model's square. Imports no torch.

Torch stays out so that processes that do nothing but decode start in a moment and take little memory.
"""
