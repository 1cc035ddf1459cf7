"""Recommenders of histories: what users had, and what they will have next."""
