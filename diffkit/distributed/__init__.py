"""One process, or several that share the work."""
