"""Text and videos become bags of unit token vectors; MeanMaxSim scores them.

`video_colbert` is the model (paper, sections 3.1 to 3.4), `open_clip` its backbone, `temporal` the transformer that makes
video tokens. This room uses torch and the base modules alone; it hands on `VideoColBERT`, `QueryTokens` and `VideoTokens`.
"""
