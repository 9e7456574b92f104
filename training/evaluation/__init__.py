"""Caption-to-video retrieval measured as the paper does (section 5.1).

`evaluate` measures a model, an index or a run file; `metrics` says how ties count. This room uses the model, the searcher
and `training.data`.
"""
