"""Text beside the picture: the lines of subtitle files and of text streams inside video files, with their times.

`sidecars` finds the files beside a video, `subtitle_text` parses them, and `text_streams` reads what lies in the video file
itself. This room opens videos by `decode.container`; index runs and decoding processes use it.
"""
