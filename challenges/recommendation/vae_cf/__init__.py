"""Mult-VAE: whole histories at once."""
