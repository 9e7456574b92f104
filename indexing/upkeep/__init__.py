"""What is done to an index that exists: compact, verify, export, split, list.

Each module is one such operation. This room uses `build` and everything below it; `indexer` and the command line call
it.
"""
