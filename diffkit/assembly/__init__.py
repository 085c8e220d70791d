"""From a spec to a checked system of components."""
