"""An index run on a Ray cluster: its machines encode and compress, one process keeps the catalog.

`cluster_run` leads, `crew` hands out jobs, `cluster_worker` does them, `retries` decides about jobs whose worker was lost.
"""
