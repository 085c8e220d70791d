"""Evaluation: what a metric says of a model and of samples."""
