"""Challenge 2: what is where in images."""
