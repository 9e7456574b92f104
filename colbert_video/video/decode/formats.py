"""Which container formats are opened, why others are refused, and how files of each begin.

Only demuxers that read the one file they are given are allowed: playlists and lists of files (HLS, DASH, IMF, concat,
SDP, image sequences, AviSynth scripts), formats with sibling files (Magic Lantern, VobSub), network protocols and
capture devices make FFmpeg open other things.

PyAV is told which formats FFmpeg may take a file for. decord and torchcodec are not: their FFmpeg follows a playlist that
is called a video, into other files and over the network. A file that begins as a container does is never a playlist.
"""

import os

from colbert_video.video.files import locate, open_range

CONTAINERS = (
    "asf,avi,flv,live_flv,kux,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegtsraw,nsv,nut,ogg,rm,swf,wtv,vivo,"
    "vividas,ivr,ty,pva,nuv,dhav,hxvs"
)
BROADCAST = "gxf,lxf,mxf,dv,simbiosis_imx,cine,r3d,mxg,lmlm4,dcstr,pmp,mtv,luodat,sdr2,vc1test"
RAW = (
    "apv,av1,avs,avs2,avs3,cavsvideo,dirac,dnxhd,evc,h261,h263,h264,hevc,ingenient,ipu,ivf,m4v,mjpeg,mjpeg_2000,mpjpeg,"
    "mpegvideo,obu,smjpeg,vc1,vvc,yuv4mpegpipe"
)
ANIMATIONS = "apng,gif,flic,iff,jpegxl_anim,cdxl,filmstrip,pdv"
GAMES = (
    "4xm,anm,argo_cvg,bethsoftvid,bfi,bink,bmv,c93,dfa,dsicin,dxa,ea,film_cpk,gdv,hnm,idcin,ifv,ipmovie,iv8,jv,lvf,mgsts,"
    "mm,mods,moflex,msnwctcp,mv,mvi,nc,osq,paf,psxstr,rl2,roq,rpl,sga,siff,smk,smush,svs,thp,tiertexseq,tmv,"
    "txd,usm,vmd,wc3movie,wsvqa,xmv,yop"
)
SOUND = "aac,ac3,aiff,amr,ape,au,caf,dts,eac3,flac,mp3,tta,voc,w64,wav,wv"
"""Without pictures, but a file that is known to hold sound alone is refused with that reason."""
FORMATS = ",".join((CONTAINERS, BROADCAST, RAW, ANIMATIONS, GAMES, SOUND))
"""Allowed demuxers by FFmpeg's names, which a given build need not have."""

SNIFFED_BYTES = 2**16
END_AND_START = b"\xff\xd9\xff\xd8"
"""End of a JPEG picture and start of the next."""
LEFT_OUT = (
    (b"#EXTM3U", "an HLS playlist: it names other files; index those"),
    (b"<MPD", "a DASH manifest: it names other files; index those"),
    (b"ffconcat", "a list of files for FFmpeg: index the files it names"),
    (b"v=0", "an SDP description of a network stream, no video"),
    (b"CompositionPlaylist", "an IMF playlist: it names other files; index those"),
    (b"[playlist]", "a playlist: it names other files; index those"),
    (b"MLVI", "a Magic Lantern recording, which may go on in other files; convert it first"),
)
PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"BM", b"8BPS", b"\0\0\x01\0", b"\xff\x0a")
ANYWHERE = (b"<MPD", b"CompositionPlaylist")
"""Marks that come after a heading."""
HEAD_BYTES = 2**20
"""As much as FFmpeg looks at to find out a file's format."""
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"styp", b"sidx")
"""Types of the first box of an MP4 or QuickTime file, at byte 4."""
SIGNATURES = {
    "matroska": (b"\x1a\x45\xdf\xa3",),
    "flv": (b"FLV\x01",),
    "ogg": (b"OggS",),
    "asf": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",),
    "gif": (b"GIF87a", b"GIF89a"),
    "rm": (b".RMF", b".ra\xfd"),
    "mxf": (b"\x06\x0e\x2b\x34",),
    "ivf": (b"DKIF",),
    "nut": (b"nut/multimedia container\0",),
    "wtv": (b"\xb7\xd8\x00\x20\x37\x49\xda\x11",),
    "swf": (b"FWS", b"CWS"),
    "yuv4mpegpipe": (b"YUV4MPEG2 ",),
    "mpeg": (b"\x00\x00\x01\xba",),
    "mpegts": (b"\x47",),
    "mpegvideo": (b"\x00\x00\x01\xb3",),
    "m4v": (b"\x00\x00\x01",),
    "h264": (b"\x00\x00\x01", b"\x00\x00\x00\x01"),
    "hevc": (b"\x00\x00\x01", b"\x00\x00\x00\x01"),
    "obu": (b"\x12\x00",),
}
"""First bytes of each format, by FFmpeg's name."""
PLAYLISTS = (
    b"#extm3u",
    b"ffconcat",
    b"<mpd",
    b"c=in ip",
    b"<smoothstreamingmedia",
    b"<asx",
    b"[playlist]",
    b"[reference]",
)
"""Words of playlists in lower case. FFmpeg looks for some of them up to the first zero byte of a file."""


def raw_format(path: str) -> str | None:
    """Return the demuxer to ask for where FFmpeg's choice would be one for pictures: "mjpeg" for several JPEGs in a row."""
    head = _head(path)
    return "mjpeg" if head.startswith(PICTURES[0]) and END_AND_START in head else None


def why_left_out(path: str) -> str | None:
    """Return why a file that no allowed demuxer knows is refused on purpose; None if it is just not known."""
    head = _head(path)
    for mark, reason in LEFT_OUT:
        if head.removeprefix(b"\xef\xbb\xbf").startswith(mark) or (mark in ANYWHERE and mark in head[:4096]):
            return reason
    return "a picture, no video" if head.startswith(PICTURES) or head[8:12] == b"WEBP" else None


def _head(path: str) -> bytes:
    with open_range(locate(path)) as file:
        return file.read(SNIFFED_BYTES)


def begins_as(path: str | os.PathLike[str], container: str) -> bool:
    """Return True if a file begins as files of a container format do, and as no playlist does.

    Args:
        path: The file, or a member of an archive.
        container: FFmpeg's name of the format; of names joined by commas the first counts.

    Raises:
        OSError: If the file cannot be read.
    """
    with open_range(locate(path)) as file:
        head = file.read(HEAD_BYTES)
    return _is_signed(head, container.partition(",")[0]) and not _has_playlist(head)


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Return True if FFmpeg might take a path for a pattern of numbered pictures, as in "frame%03d.png"."""
    return "%" in os.fspath(path)


def _is_signed(head: bytes, container: str) -> bool:
    if container == "mov":
        return head[4:8] in BOXES
    if container == "avi":
        return head.startswith((b"RIFF", b"RIFX", b"ON2 ")) and head[8:11] in (b"AVI", b"ON2")
    return head.startswith(SIGNATURES.get(container, ()))


def _has_playlist(head: bytes) -> bool:
    text = head.partition(b"\0")[0].lower()
    return any(word in text for word in PLAYLISTS)
