"""Pure tensor functions: no state, no components."""
