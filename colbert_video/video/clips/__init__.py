"""One part of a video as a file of its own: copied packet by packet where keyframes allow, else encoded again.

`cutting` is the way in. This room uses the decoders of `colbert_video.video.decode` and PyAV's encoders.
"""
