"""The registry of adapter sets by name: which there are, and what operators change about them."""
