"""The student's handbook as a site: what `make docs` runs."""
