"""The service: search, explanations, thumbnails and the videos themselves over HTTP, for browsers and programs.

`colbert-video serve my.index` starts it. One process, one event loop: requests wait in bounded queues, text is encoded
in batches by one thread, scored by a few others, and pictures are decoded in processes of their own.
"""
