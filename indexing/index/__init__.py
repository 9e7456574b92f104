"""The index folder: its settings, its layout, and what waits to be committed.

`folder` opens an index for writing, `staging` keeps encoded videos until their segment is written. This room uses the
catalog and the codec; `build`, `scan` and `upkeep` start from it.
"""
