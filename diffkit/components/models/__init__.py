"""Bundled networks."""
