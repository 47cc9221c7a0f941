"""The lake: one Parquet file per table and symbol, published whole or not at all."""
