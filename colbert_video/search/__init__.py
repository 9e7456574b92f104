"""Words, pictures or clips in, moments of video out.

`searcher` encodes a query, `view` asks the scan of every segment, `moments` finds the best frames, `hits` and `ranking`
are the results. This room uses the model and `indexing`; the service, training's evaluation and the command line use it.
"""
