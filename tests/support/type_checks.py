"""Types and shapes of every call, checked at a fraction of what jaxtyping's own hook costs.

jaxtyping gives each function two checks besides its own and compares the parameters twice. Here a function without shapes
has beartype's check alone, and one with shapes has it within a jaxtyping context: the same annotations hold, and a name of a
dimension means one size within a call.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

ORIGINAL = jaxtyping.jaxtyped
of_types = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError))
"""The checker that `--jaxtyping-packages` names in pyproject.toml."""


def check_cheaply() -> None:
    """Have jaxtyping's import hook, which `--jaxtyping-packages` installs, use `checked`."""
    jaxtyping.jaxtyped = checked


def checked(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """What the hook puts on every function and class, in place of `jaxtyping.jaxtyped`."""

    def decorate(checked_object: Any) -> Any:
        if not inspect.isfunction(checked_object):
            return ORIGINAL(typechecker=typechecker)(checked_object)
        annotations = inspect.get_annotations(checked_object).values()
        if any(map(_names_arguments, annotations)):
            return ORIGINAL(typechecker=typechecker)(checked_object)
        function = typechecker(checked_object)
        return _in_context(function) if any(map(_may_have_shapes, annotations)) else function

    return decorate


def _in_context(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give each call dimensions of its own."""

    @wraps(function)
    def call(*given: Any, **options: Any) -> Any:
        with ORIGINAL("context"):
            return function(*given, **options)

    return call


def _names_arguments(annotation: Any) -> bool:
    """True for `UInt8[np.ndarray, "{height} 3"]`: jaxtyping alone knows the arguments of a call."""
    is_array = inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray)
    return (is_array and "{" in annotation.dim_str) or any(map(_names_arguments, get_args(annotation)))


def _may_have_shapes(annotation: Any) -> bool:
    """True for `Float[Tensor, "tokens"]`, for types with it inside, and for names of types yet to come."""
    if isinstance(annotation, str):
        return True
    is_array = inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray)
    return is_array or any(map(_may_have_shapes, get_args(annotation)))
