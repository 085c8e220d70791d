"""Samplers, spacings and log-likelihoods for diffkit.

Components are found by their entry points; `diffkit_samplers.likelihood` is imported by hand.
"""
