"""The page that compares machines: what to rent, who measured what, and where the rest of a peak went."""
