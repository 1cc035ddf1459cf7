"""Challenge 1: photographs in classes."""
