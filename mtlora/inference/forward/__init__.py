"""The forward pass over prepared layers."""
