"""Laws of the learning rate."""
