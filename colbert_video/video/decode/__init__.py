"""One video file becomes sampled frames with their true times, inside one process.

`read` chooses the decoder; the other modules list a file's frames and decode only those that are wanted. This room uses
PyAV, `video.files` and `video.frames`; `workers` calls it in processes that may be killed.
"""
