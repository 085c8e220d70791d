"""Training, sampling and evaluating an assembled system, and what a run leaves behind."""
