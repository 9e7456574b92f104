"""GradCache: the gradients of a large contrastive batch at the memory of a small one (Gao et al., RepL4NLP 2021).

A contrastive loss needs all tokens of the batch at once, but not all activations. So the batch is encoded in chunks
without a graph; the loss on these tokens gives their gradients; then each chunk is encoded again, now with a graph, and
the gradients of its tokens are passed on into the model. The result equals the plain batch's gradients up to the order
of additions.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

Tokens = tuple[Tensor, ...]
"""An encoded chunk: tokens, masks and positions, each with the chunk's rows first."""


def cached_backward(
    encode: Callable[[slice], Tokens],
    loss: Callable[[Tokens], Float[Tensor, ""]],
    *,
    rows: int,
    chunk_size: int,
    no_sync: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Float[Tensor, ""]:
    """Accumulate the gradients of `loss(encode(slice(0, rows)))` chunk by chunk.

    Random numbers that `encode` draws (stochastic depth, for instance) are the same in both passes of a chunk.

    Args:
        encode: Encodes a part of the batch. If it uses autocast, each call must open its own: casts that are cached in
            the pass without graph would cut the second pass off from the weights.
        loss: Returns the loss of the whole batch.
        rows: Rows of the batch.
        chunk_size: Rows that are encoded at once.
        no_sync: Suspends the exchange of gradients between processes; wraps all chunks but the last.

    Returns:
        The loss, detached.
    """
    chunks = [slice(start, min(start + chunk_size, rows)) for start in range(0, rows, chunk_size)]
    states, parts = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(random_state())
            parts.append(encode(chunk))
    value, gradients = _token_gradients(parts, loss)
    if not bool(value.isfinite()):
        return value  # the caller stops; a second pass would only spread it
    for number, chunk in enumerate(chunks):
        last = number == len(chunks) - 1
        with nullcontext() if last else no_sync(), _replayed(states[number]):
            _backward(encode(chunk), [None if whole is None else whole[chunk] for whole in gradients])
    return value


def _token_gradients(
    parts: list[Tokens], loss: Callable[[Tokens], Float[Tensor, ""]]
) -> tuple[Float[Tensor, ""], list[Tensor | None]]:
    whole = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
    tokens = [tensor.requires_grad_() if tensor.is_floating_point() else tensor for tensor in whole]
    value = loss(tuple(tokens))
    value.backward()
    return value.detach(), [tensor.grad for tensor in tokens]


def _backward(tokens: Tokens, gradients: list[Tensor | None]) -> None:
    """Continue the backward pass from the tokens; those that the loss did not read have no gradient."""
    pairs = [
        (tensor, gradient)
        for tensor, gradient in zip(tokens, gradients, strict=True)
        if gradient is not None and tensor.requires_grad
    ]
    torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])


def random_state() -> list[Tensor]:
    """Return the random state of the CPU, and of the GPU in use if there is one."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])]


@contextmanager
def _replayed(state: list[Tensor]) -> Iterator[None]:
    """Draw random numbers inside the block from `state`; afterwards they continue as if there had been no block."""
    outside = random_state()
    set_random_state(state)
    try:
        yield
    finally:
        set_random_state(outside)


def set_random_state(state: list[Tensor]) -> None:
    """Restore what `random_state` returned."""
    torch.set_rng_state(state[0].clone())  # torch reads a row of a larger tensor from the wrong place
    if len(state) > 1:
        torch.cuda.set_rng_state(state[1])
