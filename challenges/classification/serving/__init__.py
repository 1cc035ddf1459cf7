"""How a classifier is served: image files in, the likeliest classes out."""

EMBEDDING = "embedding"
"""The output that a server has where the run was exported with it: (image, width) float32, of length one."""
