"""From a click log of any size to a prepared folder: two maps and a reduce over chunks, wherever they run."""
