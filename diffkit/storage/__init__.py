"""What a run leaves behind: its directory, its checkpoints, and what may go on from them."""
