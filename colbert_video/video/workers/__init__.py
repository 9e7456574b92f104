"""Decoding in processes with a time limit, so that no file can stop or kill a run.

`pool` hands files to `process`, which starts `worker` and talks to it through `wire`. This room uses `decode`; indexing,
search and the service use the pool.
"""
