"""Finding pictures that look alike, by what a classifier sees before it decides."""
