"""Videos over HTTP: byte ranges, thumbnails, copies that browsers play, uploads.

`media_files` is the only way from a catalog row to an open file. This room uses the video room and ffmpeg.
"""
