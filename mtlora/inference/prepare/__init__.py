"""From the tensors of a set to what a backend computes with."""
