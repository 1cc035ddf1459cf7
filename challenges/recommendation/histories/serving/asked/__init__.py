"""The first step of a recommender's ensemble: names in, positions out."""
