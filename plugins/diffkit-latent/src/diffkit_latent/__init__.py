"""Autoencoders, and diffusion in their latents, for diffkit.

Components are found by their entry points.
"""
