"""The kinds of files that `fuzz.py` forges: indexes, archives, videos, checkpoints and texts.

Each kind makes its originals once; `run` forges one of them in a folder and does with it what users do.
"""

import io
import json
import pickle
import random
import shutil
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hostile import ODD_VALUES, change, forge, mutated, odd_json, odd_tensor, use
from operations import QUERY, add_tokens
from safetensors.torch import load_file, save_file
from video_writer import write_clip

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.errors import ColBERTVideoError, VideoError
from colbert_video.indexing.catalog.filters import parse_filter
from colbert_video.indexing.upkeep.contents import describe_index, list_videos
from colbert_video.indexing.upkeep.export import export_index, import_index
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.indexing.upkeep.verify import verify_index
from colbert_video.model.checkpoint import SHIPPED as SHIPPED_MODELS
from colbert_video.search.ranking import Ranking
from colbert_video.search.trec import read_queries
from colbert_video.training.data.manifest import read_manifest
from colbert_video.training.datasets.plain_pickle import read_plain_pickle
from colbert_video.training.evaluation.evaluate import evaluate_run
from colbert_video.training.run.recipe import SHIPPED as SHIPPED_RECIPES
from colbert_video.training.run.recipe import load_recipe
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import find_videos

MAX_MESSAGE = 4000
"""Characters of an error; a longer one shows a file instead of naming it."""
CODECS = {
    "mp4": "libx264", "mov": "libx264", "mkv": "libx264", "ts": "libx264", "avi": "mpeg4", "flv": "flv", "mpg": "mpeg2video",
    "gif": "gif", "mjpeg": "mjpeg", "webm": "libvpx", "h264": "libx264",
}  # fmt: skip
PIXEL_FORMATS = {"gif": "rgb8", "mjpeg": "yuvj420p"}


@dataclass(frozen=True)
class Lures:
    """What forged files point at: everything here is watched, and nothing may touch it."""

    folder: Path
    """A folder with a video, a text and a picture, outside of what is forged."""
    address: str
    """HOST:PORT of a listener on this machine."""

    @property
    def names(self) -> list[Any]:
        """Names that lead there, in the forms in which files name others."""
        video = str(self.folder / "secret.mp4")
        urls = [f"http://{self.address}/a.mp4", f"http://{self.address}/", f"tcp://{self.address}"]
        return [video, f"file:{video}", f"concat:{video}|{video}", f"../../{self.folder.name}/secret.txt", *urls]

    @property
    def values(self) -> list[Any]:
        """All odd values, with these names."""
        return [*ODD_VALUES, *self.names, "hf-hub:user/model", "user/model"]

    def playlist(self, generator: random.Random) -> bytes:
        """A text that makes FFmpeg open other files, where it is taken for what it says."""
        name = generator.choice(self.names)
        return generator.choice(
            [
                f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2,\n{name}\n#EXT-X-ENDLIST\n",
                f"ffconcat version 1.0\nfile '{name}'\n",
                f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {self.address.split(':')[1]} RTP/AVP 96\n",
                f"[playlist]\nFile1={name}\nNumberOfEntries=1\n",
            ]
        ).encode()


class EndlessMessageError(Exception):
    """An error of ours has a text without measure."""


@dataclass
class Tried:
    """The errors of ours that the actions of a case ended in."""

    refusals: list[str] = field(default_factory=list)

    def __call__(self, *actions: Callable[[], Any]) -> bool:
        """Do one action after the other; stop at the first refusal and return False."""
        try:
            for action in actions:
                action()
        except ColBERTVideoError as error:
            if len(str(error)) > MAX_MESSAGE:
                raise EndlessMessageError(f"{type(error).__name__} of {len(str(error))} characters") from error
            kind = f" ({error.kind.value})" if isinstance(error, VideoError) else ""
            self.refusals.append(type(error).__name__ + kind)
            return False
        return True


def write_clips(folder: Path) -> dict[str, bytes]:
    """A small clip of each container, by its ending."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for suffix, codec in CODECS.items():
        path = write_clip(folder / f"a.{suffix}", 24, codec=codec, pixel_format=PIXEL_FORMATS.get(suffix, "yuv420p"))
        made[suffix] = path.read_bytes()
    return made


def write_index(path: Path) -> Path:
    """An index of two segments, of which one has a removed video."""
    add_tokens(path, "abcd", seed=0, add=False)
    add_tokens(path, "be", seed=1)
    Indexer(path).remove("a")
    return path


class Indexes:
    """Index folders with true checksums, or without."""

    def __init__(self, room: Path, lures: Lures) -> None:
        self.original, self.lures = write_index(room / "original"), lures

    def run(self, generator: random.Random, work: Path, tried: Tried) -> None:
        """Forge a part of an index; search, list, verify, and sometimes change and export it."""
        index = shutil.copytree(self.original, work / "i")
        files = sorted(path for path in index.rglob("*") if path.is_file() and path.suffix in (".pt", ".json"))
        forging = generator.choice([self._bytes, self._damage, self._catalog, self._rows, self._rows, self._rows,
                                    self._parts, self._parts, self._swap, self._link])  # fmt: skip
        forging(index, files, generator)
        tried(lambda: use(index))
        tried(lambda: verify_index(index), lambda: describe_index(index), lambda: list_videos(index, limit=3))
        if generator.random() < 0.25:
            tried(lambda: export_index(index, work / "exported"))
            tried(lambda: change(index), lambda: use(index))

    def _bytes(self, index: Path, files: list[Path], generator: random.Random) -> None:
        path = generator.choice(files)
        forge(path, mutated(path.read_bytes(), generator))

    def _damage(self, index: Path, files: list[Path], generator: random.Random) -> None:
        path = generator.choice(files)
        content = mutated(path.read_bytes(), generator)
        path.unlink()
        path.write_bytes(content)

    def _catalog(self, index: Path, files: list[Path], generator: random.Random) -> None:
        path = index / "catalog.sqlite"
        path.write_bytes(mutated(path.read_bytes(), generator))

    def _parts(self, index: Path, files: list[Path], generator: random.Random) -> None:
        path = generator.choice(files)
        if path.suffix == ".json":
            value = odd_json(json.loads(path.read_text()), generator, self.lures.values)
            forge(path, json.dumps(value).encode())
        else:
            made = io.BytesIO()
            torch.save(odd_tensor(torch.load(path, weights_only=True), generator), made)
            forge(path, made.getvalue())

    def _swap(self, index: Path, files: list[Path], generator: random.Random) -> None:
        path, other = generator.choice(files), generator.choice(files)
        forge(path, other.read_bytes())

    def _link(self, index: Path, files: list[Path], generator: random.Random) -> None:
        path = generator.choice(
            [*files, *{file.parent for file in files}, index / "catalog.sqlite", index / "writer.lock"]
        )
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.symlink_to(generator.choice([self.lures.folder, self.lures.folder / "secret.txt"]))

    def _rows(self, index: Path, files: list[Path], generator: random.Random) -> None:
        connection = sqlite3.connect(index / "catalog.sqlite")
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for _ in range(generator.choice([1, 1, 1, 3])):
            table = generator.choice(names)
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            where = f"{columns[0]} IN (SELECT {columns[0]} FROM {table} LIMIT 1 OFFSET {generator.randrange(8)})"
            where = where if generator.random() < 0.8 else "1"
            try:
                self._change_rows(connection, table, columns, where, generator)
            except sqlite3.Error:
                continue  # the schema refuses it
        connection.commit()
        connection.close()

    def _change_rows(
        self, connection: sqlite3.Connection, table: str, columns: list[str], where: str, generator: random.Random
    ) -> None:
        kind, column = generator.random(), generator.choice(columns)
        if kind < 0.1:
            connection.execute(f"DELETE FROM {table} WHERE {where}")
        elif kind < 0.2:
            values = ", ".join("?" * len(columns))
            connection.execute(f"INSERT INTO {table} VALUES ({values})", [self._value(generator) for _ in columns])
        elif kind < 0.4 and (stored := connection.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchall()):
            value = self._altered(stored[0][0], generator)
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", [value])
        else:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", [self._value(generator)])

    def _altered(self, value: Any, generator: random.Random) -> Any:
        """A stored value that is nearly right: JSON with another part, bytes that differ, a number nearby."""
        if isinstance(value, bytes):
            return mutated(value, generator)
        if isinstance(value, str):
            try:
                return json.dumps(odd_json(json.loads(value), generator, self.lures.values))
            except ValueError:
                return value + generator.choice(["x", "/..", "\0"])
        return value + generator.choice([1, -1]) if isinstance(value, int | float) else value

    def _value(self, generator: random.Random) -> Any:
        value = generator.choice(self.lures.values)
        if isinstance(value, dict | list):
            return json.dumps(value)
        if isinstance(value, str) and "\ud800" in value:
            return generator.randbytes(8)
        return 2**63 - 1 if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


class Archives:
    """Tar archives of videos with sidecars, and exported indexes."""

    def __init__(self, room: Path, lures: Lures) -> None:
        self.lures = lures
        self.clips = write_clips(room / "clips")
        index = write_index(room / "original")
        self.exported = {}
        for suffix in ("tar", "tar.gz", "zip"):
            export_index(index, room / f"exported.{suffix}")
            self.exported[suffix] = (room / f"exported.{suffix}").read_bytes()
        self.members = [
            (path.relative_to(index).as_posix(), path.read_bytes())
            for path in sorted(index.rglob("*"))
            if path.is_file() and path.suffix in (".pt", ".json", ".sqlite")
        ]

    def run(self, generator: random.Random, work: Path, tried: Tried) -> None:
        """List and decode a forged archive of videos, or import a forged export."""
        if generator.random() < 0.5:
            self._videos(generator, work / "videos.tar", tried)
        else:
            self._export(generator, work, tried)

    def _videos(self, generator: random.Random, path: Path, tried: Tried) -> None:
        sidecar = {"caption": "a", "duration": 3.0, "tags": ["x", {"y": None}]}
        members = [(f"{number}.{suffix}", content) for number, (suffix, content) in enumerate(self.clips.items())]
        chosen = generator.sample(members, 2)
        for name, _ in list(chosen):
            values = odd_json(sidecar, generator, self.lures.values) if generator.random() < 0.5 else sidecar
            chosen.append((f"{name.split('.')[0]}.json", json.dumps(values).encode()))
        content = packed(odd_members(chosen, generator, self.lures), "tar", self.lures, generator)
        path.write_bytes(mutated(content, generator) if generator.random() < 0.7 else content)
        found: list[Any] = []
        tried(lambda: found.extend(find_videos(path).records))
        for record in found[:3]:
            tried(lambda record=record: read_frames(record.path, SamplingSettings(num_frames=3)))  # type: ignore[misc]

    def _export(self, generator: random.Random, work: Path, tried: Tried) -> None:
        suffix = generator.choice(list(self.exported))
        path = work / f"index.{suffix}"
        if generator.random() < 0.4:
            path.write_bytes(mutated(self.exported[suffix], generator))
        else:
            path.write_bytes(packed(odd_members(self.members, generator, self.lures), suffix, self.lures, generator))
        tried(lambda: import_index(path, work / "imported"), lambda: use(work / "imported"))


def odd_members(
    members: Iterable[tuple[str, bytes]], generator: random.Random, lures: Lures
) -> list[tuple[str, bytes]]:
    """Members of which one is named otherwise, twice there, missing, changed, or joined by another."""
    made = list(members)
    place = generator.randrange(len(made))
    name, content = made[place]
    odd = [
        *filter(lambda name: isinstance(name, str), lures.values),
        f"../{name}",
        f"/{name}",
        f"{name}/",
        name.upper(),
        f"./{name}",
    ]
    kind = generator.randrange(6)
    if kind == 0:
        made[place] = generator.choice(odd), content
    elif kind == 1:
        made.append((name, b"other"))
    elif kind == 2:
        del made[place]
    elif kind == 3:
        made[place] = name, mutated(content, generator)
    elif kind == 4:
        made.append((generator.choice(odd), b"{}"))
    return made


def packed(members: list[tuple[str, bytes]], suffix: str, lures: Lures, generator: random.Random) -> bytes:
    """Pack members as an archive, seldom with a link among them."""
    made = io.BytesIO()
    link = generator.random() < 0.1
    if suffix == "zip":
        with zipfile.ZipFile(made, "w", generator.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for name, content in members:
                info = zipfile.ZipInfo(name.replace("\ud800", "?") or "x")
                info.external_attr = (0o120777 if link and name is members[0][0] else 0o100644) << 16
                archive.writestr(info, content)
        return made.getvalue()
    with tarfile.open(fileobj=made, mode="w:gz" if suffix == "tar.gz" else "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name.replace("\ud800", "\udcff"))
            info.size = len(content)
            if link and name is members[0][0]:
                info.type, info.size = generator.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]), 0
                info.linkname = str(lures.folder / "secret.mp4")
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


class Videos:
    """Video files of several containers."""

    def __init__(self, room: Path, lures: Lures) -> None:
        self.clips, self.lures = write_clips(room / "clips"), lures

    def run(self, generator: random.Random, work: Path, tried: Tried) -> None:
        """Sample frames of a forged file, under its own ending or another one."""
        suffix, named = generator.choice(list(self.clips)), generator.choice(list(self.clips))
        path = work / f"a.{suffix if generator.random() < 0.8 else named}"
        path.write_bytes(self.forged(self.clips[suffix], generator))
        settings = SamplingSettings(num_frames=generator.choice([1, 3, 12]))
        tried(lambda: read_frames(path, settings))

    def forged(self, content: bytes, generator: random.Random) -> bytes:
        """The file with bytes changed, a playlist before or within it, or another file joined to it."""
        kind = generator.randrange(10)
        if kind == 0:
            return self.lures.playlist(generator) + content
        if kind == 1:
            place = generator.randrange(min(len(content), 4096))
            return content[:place] + self.lures.playlist(generator) + content[place:]
        if kind == 2:
            other = generator.choice(list(self.clips.values()))
            return content[: generator.randrange(len(content))] + other
        if kind == 3:  # only the header: where sizes, counts and times are
            return mutated(content[:1024], generator) + content[1024:]
        if kind == 4:  # only the end: where an MP4 lists its samples
            return content[:-1200] + mutated(content[-1200:], generator)
        for _ in range(generator.choice([1, 1, 4, 16])):
            content = mutated(content, generator) or b"x"
        return content


class Checkpoints:
    """Checkpoints of models."""

    def __init__(self, room: Path, lures: Lures) -> None:
        self.original, self.lures = SHIPPED_MODELS / "toy", lures

    def run(self, generator: random.Random, work: Path, tried: Tried) -> None:
        """Load a forged checkpoint, and encode a query and a video."""
        folder = shutil.copytree(self.original, work / "model")
        if generator.random() < 0.6:
            self._description(folder / generator.choice(["config.json", "open_clip_config.json"]), generator)
        else:
            self._weights(folder / "model.safetensors", generator)
        models: list[VideoColBERT] = []
        tried(
            lambda: models.append(VideoColBERT.from_pretrained(folder, device="cpu")),
            lambda: models[0].encode_queries(["a red circle"]),
            lambda: models[0].encode_videos([np.zeros((3, 20, 40, 3), dtype=np.uint8)]),
        )

    def _description(self, path: Path, generator: random.Random) -> None:
        content = path.read_bytes()
        if generator.random() < 0.3:
            path.write_bytes(mutated(content, generator))
        else:
            path.write_text(json.dumps(odd_json(json.loads(content), generator, self.lures.values)))

    def _weights(self, path: Path, generator: random.Random) -> None:
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        head, rest = content[8 : 8 + size], content[8 + size :]
        kind = generator.randrange(4)
        if kind == 0:
            weights = load_file(path)
            name = generator.choice(list(weights))
            weights[name] = _plain(odd_tensor(weights[name], generator), weights[name])
            save_file(weights, path)
            return
        if kind == 1:
            head = json.dumps(odd_json(json.loads(head), generator, self.lures.values)).encode()
        elif kind == 2:
            head = mutated(head, generator)
        else:
            rest = mutated(rest, generator)
        size = len(head) if generator.random() < 0.8 else generator.choice([0, 2**31, 2**63, len(head) + 1])
        path.write_bytes(size.to_bytes(8, "little") + head + rest)


def _plain(value: Any, default: torch.Tensor) -> torch.Tensor:
    usable = isinstance(value, torch.Tensor) and value.layout == torch.strided
    return value.contiguous() if usable else default[:0].clone()


class Texts:
    """Manifests, runs, judgements, queries, recipes, filters, lists of shards, and pickles of plain values."""

    def __init__(self, room: Path, lures: Lures) -> None:
        self.lures = lures
        index = write_index(room / "original")
        shard_index(index, room / "shards", shards=2)
        self.shards, self.searcher = room / "shards", Searcher(index)
        rows = [{"video": f"{n}.mp4", "caption": f"words {n}", "split": "train" if n % 2 else "test"} for n in range(6)]
        table = [list(rows[0]), *(list(row.values()) for row in rows)]
        self.texts: dict[str, Any] = {
            "m.json": rows,
            "m.jsonl": "\n".join(json.dumps(row) for row in rows).encode(),
            "m.csv": "\n".join(",".join(map(str, row)) for row in table).encode(),
            "m.tsv": "\n".join("\t".join(map(str, row)) for row in table).encode(),
            "run.trec": b"q1 Q0 a 1 0.9 x\nq1 Q0 b 2 0.8 x\nq2 Q0 a 1 0.5 x\n",
            "qrels.txt": b"q1 0 a 1\nq1 0 b 0\nq2 0 b 2\n",
            "queries.tsv": b"q1\ta dog\nq2\ttwo cats\n",
            "recipe.yaml": yaml.safe_load((SHIPPED_RECIPES / "toy.yaml").read_text()),
            "filter.json": {
                "name": "b",
                "seed": {">": 0},
                "or": [{"id": {"in": ["a", "b"]}}, {"not": {"x": {"exists": True}}}],
            },
            "shards.json": json.loads((self.shards / "shards.json").read_text()),
            "captions.pkl": pickle.dumps({"vid1": [["a", "dog"], ["two", "cats"]]}),
        }

    def run(self, generator: random.Random, work: Path, tried: Tried) -> None:
        """Read a forged file with its reader."""
        name = generator.choice(list(self.texts))
        path = work / name
        path.write_bytes(self._forged(name, generator))
        if name.startswith("m."):
            tried(lambda: read_manifest(path))
        elif name in ("run.trec", "qrels.txt"):
            self._rankings(path, generator.random() < 0.3, tried)
        elif name == "shards.json":
            folder = shutil.copytree(self.shards, work / "shards")
            (folder / name).write_bytes(path.read_bytes())
            tried(lambda: use(folder))
        elif name == "filter.json":
            text = path.read_bytes().decode(errors="surrogateescape")
            tried(lambda: self.searcher.search_tokens(QUERY, k=3, where=parse_filter(text)))
        else:
            readers: dict[str, Callable[[Path], Any]] = {"queries.tsv": read_queries, "recipe.yaml": load_recipe}
            tried(lambda: readers.get(name, read_plain_pickle)(path))

    def _forged(self, name: str, generator: random.Random) -> bytes:
        original = self.texts[name]
        if isinstance(original, bytes):
            return mutated(original, generator)
        whole = odd_json(original, generator, self.lures.values) if generator.random() < 0.7 else original
        text = yaml.safe_dump(whole) if name.endswith(".yaml") else json.dumps(whole)
        content = text.encode(errors="surrogatepass")
        return content if whole is not original else mutated(content, generator)

    def _rankings(self, path: Path, escaped: bool, tried: Tried) -> None:
        run, qrels = path.with_name("run"), path.with_name("qrels")
        for file, name in ((run, "run.trec"), (qrels, "qrels.txt")):
            file.write_bytes(path.read_bytes() if path.name == name else self.texts[name])
        tried(lambda: evaluate_run(run, qrels, escaped=escaped))
        tried(lambda: Ranking.load_trec(run, escaped=escaped))
