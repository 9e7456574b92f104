"""CLIP's tokenizer: byte pairs of lower-case English, as open_clip has them, without importing open_clip."""

import gzip
import html
from collections.abc import Iterable
from functools import cache, partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
"""OpenAI's list of merges, which is part of open_clip."""
MERGES = 49152 - 256 - 2
"""How many lines of the list count, after its first."""
START, END = "<start_of_text>", "<end_of_text>"
PIECES = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
WORD_END = "</w>"


class ClipTokenizer:
    """Turns texts into ids of one length, padded with zeros.

    Args:
        merges: The pairs that become one piece, most frequent first.
    """

    def __init__(self, merges: list[tuple[str, str]]) -> None:
        import regex

        self._bytes = _characters_of_bytes()
        characters = list(self._bytes.values())
        pieces = [*characters, *(character + WORD_END for character in characters)]
        pieces += [first + second for first, second in merges]
        pieces += [START, END]
        self._ids = {piece: row for row, piece in enumerate(pieces)}
        self._pieces = pieces
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._known = {START: [self._ids[START]], END: [self._ids[END]]}
        self._split = partial(regex.findall, regex.compile(PIECES, regex.IGNORECASE))
        self.sot_token_id, self.eot_token_id = self._ids[START], self._ids[END]

    @classmethod
    def find(cls) -> "ClipTokenizer | None":
        """Read the vocabulary that open_clip brings along; None if it is not where it has always been."""
        spec = find_spec("open_clip")
        folders = [] if spec is None else spec.submodule_search_locations or []
        for folder in folders:
            path = Path(folder) / VOCABULARY_FILE
            if path.is_file():
                return cls(_read_merges(path))
        return None

    def __call__(self, texts: Iterable[str], context_length: int) -> Int[Tensor, "texts context_length"]:
        """Return the ids of each text; longer ones are cut, the end-of-text token kept."""
        rows = [[self.sot_token_id, *self.encode(text), self.eot_token_id] for text in texts]
        ids = torch.zeros(len(rows), context_length, dtype=torch.long)
        for row, tokens in zip(ids, rows, strict=True):
            if len(tokens) > context_length:
                tokens = [*tokens[: context_length - 1], self.eot_token_id]
            row[: len(tokens)] = torch.tensor(tokens)
        return ids

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without those of its start and end."""
        return [token for word in self._split(_clean(text)) for token in self._word(word)]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of some ids."""
        back = {character: byte for byte, character in self._bytes.items()}
        text = "".join(self._pieces[token] for token in tokens)
        return bytes(back[character] for character in text).decode("utf-8", errors="replace").replace(WORD_END, " ")

    def _word(self, word: str) -> list[int]:
        """Return the ids of one word of `_split`."""
        spelled = "".join(self._bytes[byte] for byte in word.encode("utf-8"))
        if spelled not in self._known:
            parts = self._merged([*spelled[:-1], spelled[-1] + WORD_END])
            self._known[spelled] = [self._ids[part] for part in parts]
        return self._known[spelled]

    def _merged(self, parts: list[str]) -> list[str]:
        """Join the pair of the lowest rank until none is left that has one."""
        while len(parts) > 1:
            pair = min(pairwise(parts), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if pair not in self._ranks:
                break
            parts = _joined(parts, pair)
        return parts


@cache
def _read_merges(path: Path) -> list[tuple[str, str]]:
    """Return the pairs of OpenAI's list, which every model of a process shares."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : MERGES + 1]
    first, second = zip(*(line.split() for line in lines), strict=True)
    return list(zip(first, second, strict=True))


def _joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """Replace each occurrence of a pair, from the left, by one piece."""
    joined: list[str] = []
    rest = iter(range(len(parts)))
    for row in rest:
        if (parts[row], *parts[row + 1 : row + 2]) == pair:
            joined.append("".join(pair))
            next(rest)
        else:
            joined.append(parts[row])
    return joined


def _clean(text: str) -> str:
    """Return a text as the vocabulary has it: repaired, in lower case, with single spaces."""
    if not (text.isascii() and text.isprintable() and "&" not in text):  # else there is nothing to repair
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _characters_of_bytes() -> dict[int, str]:
    """Return a printable character for each byte, in the order of the vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + row) for row, byte in enumerate(others)}
