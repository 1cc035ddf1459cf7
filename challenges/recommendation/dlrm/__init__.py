"""DLRM: products of embeddings and numbers, and layers over them."""
