"""Conditions on classes and texts, and guidance towards them, for diffkit.

Components are found by their entry points.
"""
