"""How recommenders are served: asked with the data's own names, answering with them."""
