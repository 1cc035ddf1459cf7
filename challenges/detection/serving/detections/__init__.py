"""The last step of a detector's ensemble: boxes in the image's own pixels, and the classes' names."""
