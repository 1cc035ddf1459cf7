"""Training: the task, its steps, the trainer and what watches it."""
