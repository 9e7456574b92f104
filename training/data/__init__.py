"""Captioned videos as training batches.

`manifest` reads the rows, `loader` makes the batches, `frame_cache` keeps decoded frames. This room uses the video room.
"""
