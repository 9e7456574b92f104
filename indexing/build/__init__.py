"""From videos, or from tokens, to a committed segment.

`ingest` runs the work: `encoding` makes tokens, `segment_builder` compresses them, `commit` makes them visible. This
room uses the model, the video room and `index`; `indexer` calls it.
"""
