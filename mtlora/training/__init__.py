"""Training: adapter sets, pretraining, and what every run has."""
