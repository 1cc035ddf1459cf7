#!/usr/bin/env bash
# What a GPU shows about this kit in ten minutes, on any machine with torch and NumPy:
#   bash benchmarks/proof/prove_gpu.sh [--output FOLDER] [--seconds N] [PART ...]
# PYTHON names the interpreter. What the proofs with pictures need besides is packed by benchmarks/proof/wheels.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec "${PYTHON:-python3}" -m benchmarks.proof.prove_gpu "$@"
