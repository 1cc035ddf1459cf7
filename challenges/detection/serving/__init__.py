"""How a detector is served: image files in, named boxes in their own pixels out."""
