"""Interactions as people keep them: found, downloaded and read."""
