"""What tells that it got slower, on machines that are never quiet: counts of a step, instructions of hot paths."""
