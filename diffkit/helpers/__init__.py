"""What verbs and plugins need beside the mathematics: files, locks, progress, pictures."""
