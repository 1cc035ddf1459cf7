"""Photograph-like pictures, drawn: the demo data of the challenges that look at images."""
