"""Click models and the logs they learn from: typed features, preparation, reading, serving."""
