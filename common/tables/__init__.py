"""Columns of tables on their way from Parquet files to the device."""
