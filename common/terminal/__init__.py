"""What is printed: the console, progress, durations and what the kit understood."""
