"""Scoring a query against an open index (design: fused centroid interaction, then exact scores).

`index_reader` opens one commit, `scan` scores a segment with the compiled kernels or with torch, `stock` with
colbert-ai. This room uses `segments`, `codec` and the catalog, and never the model; `search` calls it.
"""
