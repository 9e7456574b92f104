"""Packages whose public names are imported when they are first used (PEP 562), so that importing one costs nothing."""

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, Iterable[str]]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__all__`, `__getattr__` and `__dir__` of a package.

    Type checkers and documentation read the package's imports under `if TYPE_CHECKING`; a test holds both equal.

    Args:
        package: Its `__name__`.
        homes: Public names by the module that has them.
    """
    home_of = {name: module for module, names in homes.items() for name in names}
    offered = sorted(home_of)

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(offered)}")
        return getattr(import_module(home_of[name]), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *offered})

    return offered, get, names
