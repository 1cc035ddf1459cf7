"""How speed is measured, and the records."""
