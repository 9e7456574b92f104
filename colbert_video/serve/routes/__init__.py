"""The addresses of the service, a module for each kind: search, media, lists, indexes, session, status.

Routes turn requests into calls and values into the answers of `schemas`. They use the rest of `serve`; `app` mounts them.
"""
