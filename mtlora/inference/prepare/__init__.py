"""Preparation of a set: from its tensors to what a backend computes with."""
