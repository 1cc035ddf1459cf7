"""How a classifier is served: image files in, the likeliest classes out."""
