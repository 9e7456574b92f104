"""MP4 files whose track changes its sample description, such as the picture's size: no muxer at hand writes them."""

import struct
from pathlib import Path
from typing import Any

import av

BRANCHES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")
DURATIONS = {b"mvhd": 16, b"mdhd": 16, b"tkhd": 20, b"elst": 8}
"""Where boxes of version 0 have a duration (ISO/IEC 14496-12), in bytes from their content's start."""
LISTS = (b"stts", b"ctts")
"""Tables that both parts have, or neither; one behind the other they are those of the whole."""


def join_recordings(first: Path, second: Path, target: Path) -> Path:
    """Write the video of two MP4 files, encoded alike, as one track with two sample descriptions, both of one kind."""
    parts = [_Recording(path) for path in (first, second)]
    start = len(parts[0].head) + 8
    for _ in range(2):  # the second time with the true place of the samples
        moov = _joined(*parts, start)
        start = len(parts[0].head) + len(moov) + 8
    samples = b"".join(sample for part in parts for sample in part.samples)
    target.write_bytes(parts[0].head + moov + _box(b"mdat", samples))
    return target


class _Recording:
    def __init__(self, path: Path) -> None:
        outermost = dict(_boxes(path.read_bytes()))
        self.head = _box(b"ftyp", outermost[b"ftyp"])
        self.tree = _tree(_box(b"moov", outermost[b"moov"]))
        self.leaves: dict[bytes, bytes] = dict(_leaves(self.tree))
        with av.open(str(path)) as container:
            self.samples = [bytes(packet) for packet in container.demux(video=0) if packet.size]

    @property
    def size(self) -> int:
        return sum(map(len, self.samples))

    def keys(self, before: int) -> list[int]:
        count = struct.unpack_from(">I", self.leaves[b"stss"], 4)[0]
        return [number + before for number in struct.unpack_from(f">{count}I", self.leaves[b"stss"], 8)]


def _joined(one: _Recording, two: _Recording, start: int) -> bytes:
    sizes = [len(sample) for part in (one, two) for sample in part.samples]
    chunks = (1, len(one.samples), 1, 2, len(two.samples), 2)  # first chunk, samples in each, sample description
    changed = {
        b"stsd": _counted(one.leaves[b"stsd"], two.leaves[b"stsd"]),
        b"stss": _table(one.keys(0) + two.keys(len(one.samples))),
        b"stsz": struct.pack(f">3I{len(sizes)}I", 0, 0, len(sizes), *sizes),
        b"stsc": struct.pack(">2I6I", 0, 2, *chunks),
        b"stco": _table([start, start + one.size]),
    }
    changed |= {name: _counted(one.leaves[name], two.leaves[name]) for name in LISTS if name in one.leaves}
    for name, place in DURATIONS.items():
        if name in one.leaves:
            body = bytearray(one.leaves[name])
            both = (struct.unpack_from(">I", part.leaves[name], place)[0] for part in (one, two))
            struct.pack_into(">I", body, place, sum(both))
            changed[name] = bytes(body)
    return _written(one.tree, changed)


def _counted(one: bytes, two: bytes) -> bytes:
    """One table behind the other: version and flags, the number of entries, the entries."""
    count = sum(struct.unpack_from(">I", body, 4)[0] for body in (one, two))
    return one[:4] + struct.pack(">I", count) + one[8:] + two[8:]


def _table(values: list[int]) -> bytes:
    return struct.pack(f">2I{len(values)}I", 0, len(values), *values)


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 0
    while place < len(data):
        size = struct.unpack_from(">I", data, place)[0]
        found.append((data[place + 4 : place + 8], data[place + 8 : place + size]))
        place += size
    return found


def _tree(data: bytes) -> list[tuple[bytes, Any]]:
    return [(name, _tree(body) if name in BRANCHES else body) for name, body in _boxes(data)]


def _leaves(tree: list[tuple[bytes, Any]]) -> list[tuple[bytes, bytes]]:
    inner = [_leaves(body) if name in BRANCHES else [(name, body)] for name, body in tree]
    return [leaf for leaves in inner for leaf in leaves]


def _written(tree: list[tuple[bytes, Any]], changed: dict[bytes, bytes]) -> bytes:
    return b"".join(
        _box(name, _written(body, changed) if name in BRANCHES else changed.get(name, body)) for name, body in tree
    )
