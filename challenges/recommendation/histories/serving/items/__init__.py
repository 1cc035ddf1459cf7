"""The last step of a recommender's ensemble: what the recommended items are called."""
