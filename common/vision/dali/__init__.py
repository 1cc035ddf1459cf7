"""DALI graphs, the same on a CPU and a GPU, in training, evaluation and serving."""
