"""Bundled parameterizations."""
