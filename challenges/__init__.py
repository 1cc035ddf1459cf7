"""One folder per challenge, and the command line."""
