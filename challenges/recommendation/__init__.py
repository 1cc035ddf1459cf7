"""Challenge 3: what a person wants next."""
