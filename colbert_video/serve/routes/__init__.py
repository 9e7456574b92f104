"""The addresses of the service, one module per kind: search, media, lists, indexes, session, status.

Routes turn requests into calls and values into the answers of `schemas`. They use the rest of `serve`; `app` mounts them.
"""
