"""Click logs: spec, preparation, reading, serving transform."""
