"""Bundled feature extractors."""
