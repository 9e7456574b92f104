"""Building and keeping a PLAID index (Santhanam et al., CIKM 2022): one index for frame tokens, one for video tokens.

Tokens are rotated, assigned to centroids and residual-compressed (`codec`), stored in ColBERT 0.2.22's files
(`segment`), and listed with their ids, times and metadata in one SQLite catalog (`catalog`).
"""
