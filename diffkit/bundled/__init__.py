"""The bundled components, one a file; each is found by its entry point like any other."""
