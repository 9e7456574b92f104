"""Files as strangers forge them: bytes changed at random, JSON and tensors that are odd, catalogs with true checksums."""

import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import torch
from operations import QUERY, add_tokens

from colbert_video import Indexer, Searcher
from colbert_video.durable import checksum


def catalog(index: Path, *statements: str, values: tuple[Any, ...] = ()) -> None:
    """Run SQL on the catalog as a stranger could."""
    connection = sqlite3.connect(index / "catalog.sqlite")
    for statement in statements:
        connection.execute(statement, values)
    connection.commit()
    connection.close()


def forge(path: Path, content: bytes) -> None:
    """Replace a file of an index, with the size and checksum that its catalog names."""
    index = next(parent for parent in path.parents if (parent / "catalog.sqlite").exists())
    path.unlink()  # hard links share it
    path.write_bytes(content)
    size, sha256 = checksum(path)
    name = path.relative_to(index).as_posix()
    catalog(index, "UPDATE files SET size = ?, sha256 = ? WHERE path = ?", values=(size, sha256, name))


def forge_tensors(path: Path, value: Any) -> None:
    temporary = path.with_name("forged")
    torch.save(value, temporary)
    content = temporary.read_bytes()
    temporary.unlink()
    forge(path, content)


def forge_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    config = changes.pop("config", {})
    content["config"].update(config)
    forge(path, json.dumps({**content, **changes}).encode())


def frame(index: Path) -> Path:
    """The frame bag of the segment that is read first."""
    with sqlite3.connect(index / "catalog.sqlite") as connection:
        ((name,),) = connection.execute("SELECT name FROM segments ORDER BY rowid LIMIT 1").fetchall()
    connection.close()
    return index / "segments" / name / "frame"


def codec_folder(index: Path) -> Path:
    (folder,) = (index / "codec").iterdir()
    return folder / "frame"


def use(index: Path) -> list[str]:
    """Do everything that users do with an index, short of changing it; return the ids that are found, each twice."""
    with Searcher(index) as searcher:
        hits = searcher.search_tokens(QUERY, k=9)
        exact = searcher.search_tokens(QUERY, k=9, exact=True)
    return sorted(hit.id for hit in (*hits, *exact))


def change(index: Path) -> None:
    """Add a video and compact."""
    add_tokens(index, "z", seed=3)
    Indexer(index).compact()


ODD_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308, -1e308, float("nan"), float("inf"),
    "", "x", "..", "../../etc", "/", "a\0b", "\ud800", "é" * 300, "0", "1e3", [], {}, [[]], [None], {"": {}},
]  # fmt: skip
"""What a value in a file may be instead."""


def odd_json(value: Any, generator: random.Random, odd: list[Any]) -> Any:
    """The value with one of its parts replaced, repeated, nested or missing."""
    if not isinstance(value, dict | list) or not value or generator.random() < 0.15:
        return _odd(value, generator, odd)
    if isinstance(value, dict):
        key = generator.choice(list(value))
        rest = {name: part for name, part in value.items() if name != key}
        kind = generator.random()
        if kind < 0.1:
            return rest
        changed = odd_json(value[key], generator, odd)
        return {**rest, str(generator.choice(odd)): value[key]} if kind < 0.15 else {**value, key: changed}
    place = generator.randrange(len(value))
    return [*value[:place], odd_json(value[place], generator, odd), *value[place + 1 :]]


def _odd(value: Any, generator: random.Random, odd: list[Any]) -> Any:
    kind = generator.randrange(8)
    if kind == 0:
        return [value] * generator.choice([0, 2, 1000])
    if kind == 1:
        return {"x": value}
    if kind == 2 and isinstance(value, int | float) and not isinstance(value, bool):
        return value * generator.choice([-1, 2, 1000, 10**6])
    return generator.choice(odd)


def odd_tensor(value: Any, generator: random.Random) -> Any:
    """A tensor, or a tuple of them, of other values, another type or shape; seldom no tensor at all."""
    if isinstance(value, tuple | list):
        place = generator.randrange(len(value))
        return tuple(odd_tensor(one, generator) if number == place else one for number, one in enumerate(value))
    if not isinstance(value, torch.Tensor):
        return generator.choice(ODD_VALUES[:16])
    flat = value.detach().clone()
    kind = generator.randrange(8)
    if kind == 0:
        return flat.to(
            generator.choice([torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64])
        )
    if kind == 1:
        return flat.reshape(-1)[: generator.randrange(flat.numel() + 1)].clone()
    if kind == 2:
        return torch.cat([flat.reshape(-1)] * generator.choice([2, 3])).reshape(-1, *flat.shape[1:])
    if kind == 3:
        return flat[None] if generator.random() < 0.5 else flat.reshape(-1)
    if kind == 4:
        return generator.choice(
            [{"x": flat}, [flat], flat.to_sparse() if flat.dtype == torch.float32 else None, "x", 7]
        )
    numbers = flat.to(torch.float32 if flat.is_floating_point() else flat.dtype).reshape(-1).clone()
    odd = [0, -1, 1e38, float("nan"), float("inf")] if flat.is_floating_point() else [0, 127, 255, -1, 2**31 - 1]
    wanted = generator.choice(odd)
    for _ in range(generator.choice([1, 5, 1000])):
        if len(numbers):
            numbers[generator.randrange(len(numbers))] = wanted % 256 if numbers.dtype == torch.uint8 else wanted
    return numbers.to(flat.dtype).reshape(flat.shape)


def mutated(content: bytes, generator: random.Random) -> bytes:
    """A few bytes changed, cut out, put in, or repeated; or the end missing."""
    data = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 8])):
        place = generator.randrange(len(data) + 1)
        kind = generator.randrange(5)
        if kind <= 1 and place < len(data):
            data[place] = generator.choice([0, 1, 127, 128, 255, data[place] ^ (1 << generator.randrange(8))])
        elif kind == 2:
            del data[place : place + generator.randint(1, 64)]
        elif kind == 3:
            data[place:place] = generator.randbytes(generator.randint(1, 16))
        else:
            data[place : place + 8] = generator.choice([b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7])
    return bytes(data if generator.random() < 0.9 else data[: generator.randrange(len(data) + 1)])
