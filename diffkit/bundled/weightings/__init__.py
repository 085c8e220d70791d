"""Bundled weightings."""
