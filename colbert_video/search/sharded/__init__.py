"""One search over many indexes (shards), in one process and without Ray.

`sharded_searcher` sends an encoded query to each `shard` and merges the best. This room uses `search`; `cluster` puts the
same shards on other machines.
"""
