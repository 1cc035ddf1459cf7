"""The verbs' stages: check, train, evaluate, export, parity and serve."""
