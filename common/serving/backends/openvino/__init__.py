"""OpenVINO as a Triton backend."""
