"""How a click model is served: raw values in, the probability of a click out."""
