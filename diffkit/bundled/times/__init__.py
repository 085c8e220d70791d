"""Bundled laws of training times."""
