"""A segment on disk: for each bag one complete ColBERT 0.2.22 PLAID index.

`segment` writes and opens the files of a bag; `opened_segment` is a segment whose files are memory-mapped. This room
uses `codec`; `build` writes segments and `scan` reads them.
"""
