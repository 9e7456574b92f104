"""Many machines: indexing and searching with Ray.

Nothing here imports Ray before it is used; `pip install "colbert_video[cluster]"` brings it.
"""
