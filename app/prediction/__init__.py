"""The path of one prediction: from a request to its answer."""
