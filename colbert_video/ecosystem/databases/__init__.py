"""Indexes as tables of other systems, and back: Parquet, NumPy's npz, LanceDB and Qdrant.

`export_tokens` writes, `import_tokens` reads. Each format has a file with both ways; they meet in `TokenBatch`.
"""
