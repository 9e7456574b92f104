"""Scores bags with the stock colbert-ai package: `python stock_colbert_scores.py REQUEST ANSWER`.

Without arguments it only compiles stock's C++ into torch's folder of extensions, where whoever comes next finds it;
where no compiler is found, it does nothing.

A program of its own, so that stock runs as it is, side effects and all. Where no compiler is found, three of its C++
functions are preset with plain torch ones over the same arguments, and the bytes on disk are checked all the same.
"""

import os
import shutil
import sys
from typing import Any

import torch
from torch import Tensor


def decompress_residuals(
    pids: Tensor, lengths: Tensor, offsets: Tensor, weights: Tensor, reversed_bits: Tensor, combinations: Tensor,
    residuals: Tensor, codes: Tensor, centroids: Tensor, dim: int, nbits: int,
) -> Tensor:  # fmt: skip
    """colbert/search/decompress_residuals.cpp."""
    rows = torch.cat([torch.arange(offsets[pid], offsets[pid] + lengths[pid]) for pid in pids.tolist()])
    buckets = combinations[reversed_bits[residuals[rows].long()].long()].reshape(len(rows), dim)
    return weights[buckets.long()] + centroids[codes[rows].long()]


def segmented_maxsim(scores: Tensor, lengths: Tensor) -> Tensor:
    """colbert/modeling/segmented_maxsim.cpp: maxima start at zero."""
    return torch.stack([part.amax(0).clamp(min=0).sum() for part in scores.split(lengths.tolist())])


def segmented_lookup(tensor: Tensor, pids: Tensor, lengths: Tensor, offsets: Tensor) -> Tensor:
    """colbert/search/segmented_lookup.cpp."""
    starts = zip(offsets.tolist(), lengths.tolist(), strict=True)
    return torch.cat([tensor[start : start + length] for start, length in starts])


def compiler_found() -> bool:
    """Whether stock can compile its C++ here, which needs POSIX threads."""
    tools = (os.environ.get("CXX", "c++"), "ninja")  # where torch looks for them
    return os.name == "posix" and all(shutil.which(tool) for tool in tools)


def load_functions(compiled: bool) -> Any:
    """Compile stock's C++, or put the torch functions where it looks before it compiles; return its IndexScorer."""
    from colbert.modeling.colbert import ColBERT
    from colbert.search.index_storage import IndexScorer
    from colbert.search.strided_tensor import StridedTensor

    if compiled:
        ColBERT.try_load_torch_extensions(False)  # the others load theirs when they are made
        return IndexScorer
    for owner in (IndexScorer, StridedTensor, ColBERT):
        owner.loaded_extensions = True
    IndexScorer.decompress_residuals = staticmethod(decompress_residuals)
    StridedTensor.segmented_lookup = staticmethod(segmented_lookup)
    ColBERT.segmented_maxsim = staticmethod(segmented_maxsim)
    return IndexScorer


def compile_everything() -> None:
    """Compile all C++ that stock uses on CPUs, which takes minutes unless it was done before."""
    from colbert.search.strided_tensor import StridedTensor

    for owner in (load_functions(compiled=True), StridedTensor):
        owner.try_load_torch_extensions(False)


def score(scorer_class: Any, folder: str, query: Tensor, ncells: int) -> dict[str, Tensor]:
    """Score all passages of the index in `folder`, retrieve by its inverted lists, and decompress it whole."""
    from colbert.infra import ColBERTConfig

    scorer = scorer_class(folder, use_gpu=False)
    config = ColBERTConfig.load_from_index(folder)
    config.configure(query_maxlen=len(query), ncells=ncells)
    everything = torch.arange(len(scorer.doclens), dtype=torch.int32)
    scores, _ = scorer.score_pids(config, query[None], everything, None)
    retrieved, _ = scorer.retrieve(config, query[None])
    tokens = int(scorer.doclens.sum())
    stored = scorer.codec.Embeddings(scorer.embeddings.codes[:tokens], scorer.embeddings.residuals[:tokens])
    return {"scores": scores, "retrieved": retrieved, "tokens": scorer.codec.decompress(stored)}


def compress(folder: str, tokens: Tensor) -> dict[str, Tensor]:
    """Compress rotated tokens with the stock codec."""
    from colbert.indexing.codecs.residual import ResidualCodec

    compressed = ResidualCodec.load(folder).compress(tokens)
    return {"codes": compressed.codes, "residuals": compressed.residuals}


def main(request: str, answer: str) -> None:
    """Answer every case of a saved list of requests."""
    scorer_class = load_functions(compiler_found())
    answers = {}
    for name, case in torch.load(request).items():
        answers[name] = {
            **score(scorer_class, case["folder"], case["query"], case["ncells"]),
            **compress(case["folder"], case["rotated"]),
        }
    torch.save(answers, answer)


if __name__ == "__main__":
    if sys.argv[1:]:
        main(*sys.argv[1:])
    elif compiler_found():
        compile_everything()
