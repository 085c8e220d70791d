"""Training: updates of the weights, and what surrounds them."""
