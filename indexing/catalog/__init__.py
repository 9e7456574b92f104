"""The catalog: one SQLite file that alone says what an index holds.

`catalog` writes, `catalog_reader` reads one commit, `entries` checks every row both ways. This room knows ids, times and
metadata, but no tokens; every other room of `indexing` asks it which segments and items are live.
"""
