"""Bundled forward processes."""
