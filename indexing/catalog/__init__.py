"""The catalog: one SQLite file that alone says what an index holds.

`catalog` reads and commits, `entries` checks every row both ways, `filters` become SQL. This room knows ids, times and
metadata, but no tokens; every other room of `indexing` asks it which segments and items are live.
"""
