"""Serving: the Triton model repository, a local server, a client and a load generator."""
