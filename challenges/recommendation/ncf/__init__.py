"""NeuMF: users and items by embedding."""
