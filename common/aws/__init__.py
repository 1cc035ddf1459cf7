"""A run on a rented GPU of AWS: planned, launched, followed and taken down; and data that lies in S3."""
