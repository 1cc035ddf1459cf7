"""What Triton's Python stubs run: one folder per backend, each with the `model.py` that Triton looks for."""
