"""DALI on the CPU as a Triton backend."""
