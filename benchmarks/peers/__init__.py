"""Proof against other software: each side of a comparison, and the commands that hold the kit against it."""
