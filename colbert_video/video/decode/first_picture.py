"""How players show the pictures of a video, from its first frame."""

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.container import Deadline, OpenVideo, open_video
from colbert_video.video.decode.decoding import FrameDecoder
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.frames import SamplingSettings, SourcePicture


def read_source(path: str, settings: SamplingSettings) -> SourcePicture:
    """Return how players show the pictures of a file.

    Raises:
        VideoError: If the file cannot be used.
    """
    with open_video(path, Deadline(settings.timeout, path), settings.max_pixels, settings.stream) as video:
        return first_picture(video, settings)


def first_picture(video: OpenVideo, settings: SamplingSettings) -> SourcePicture:
    """Return how players show the pictures of an open file; it has to be opened again for other frames.

    Raises:
        VideoError: If no frame decodes, or it is too large.
    """
    resizer = FrameResizer(video.path, settings, video.shape)
    for frame in FrameDecoder(video, resizer).frames(video.packets()):
        resizer(frame)
        if resizer.source is not None:
            return resizer.source
    raise VideoError(video.path, FailureKind.UNDECODABLE, "no frame of the video stream decodes")
