"""Bundled spacings."""
