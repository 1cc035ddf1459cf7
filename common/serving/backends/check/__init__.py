"""The first step of an ensemble: refuses what is not an image before anything is decoded."""
