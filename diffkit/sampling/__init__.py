"""Sampling: from noise to samples with a trained network."""
