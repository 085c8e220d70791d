"""Augmentations of batches in training."""
