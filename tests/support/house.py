"""The plan of the source folders: which room may import which, and what a room may look like.

A source tree is a mapping from paths inside the package ("indexing/codec/codec.py") to texts, so that tests can also check
made-up trees. A room is a folder; its rank follows from where it lies, never from a list of modules. Imports inside functions
count like those at the top of a file; only those under `if TYPE_CHECKING` do not, since they never run.
"""

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from paths import ROOT

Tree = Mapping[str, str]
Graph = dict[str, set[str]]

PACKAGE = "colbert_video"
LEVELS = (
    ("", "base"),
    ("video", "model"),
    ("indexing/catalog", "indexing/codec"),
    ("indexing/segments",),
    ("indexing/index",),
    ("indexing/build", "indexing/scan"),
    ("indexing/upkeep",),
    ("indexing",),
    ("search",),
    ("training",),
    ("serve",),
    ("cluster",),
    ("cli", "ecosystem"),
)
"""Rooms from the ground up: one imports what lies below it, or itself, its sub-rooms included."""
MAX_PACKAGE_LEVELS = 10
BASE_MODULES = {"errors", "progress", "device", "hub", "durable", "__init__", "__main__"}
"""What may lie at the root of the package."""
MAX_MODULES = 16
"""Most modules in one room, `__init__` not counted."""
WHOLE_CLASSES = ("Searcher", "Indexer", "Catalog", "VideoColBERT")
"""Classes that hold all their public methods in their own file."""


def source_tree() -> dict[str, str]:
    """Return the source of the checkout; the links to `indexing/` and `training/` are read once."""
    tree = {}
    for top, prefix in (("colbert_video", ""), ("indexing", "indexing"), ("training", "training")):
        for path in sorted((ROOT / top).rglob("*.py")):
            inside = path.relative_to(ROOT / top)
            if top != "colbert_video" or inside.parts[0] not in ("indexing", "training"):
                tree[(PurePosixPath(prefix) / inside).as_posix()] = path.read_text(encoding="utf-8")
    return tree


def upward_imports(tree: Tree) -> list[str]:
    """Return the imports of a module that lies above the one that imports it."""
    return [
        f"{importer} imports {imported}, which lies above it"
        for importer, targets in import_graph(tree).items()
        for imported in sorted(targets)
        if _rank(imported) > _rank(importer)
    ]


def file_circles(tree: Tree) -> list[str]:
    """Return groups of files that import each other, directly or by way of others."""
    return [f"files import each other: {', '.join(circle)}" for circle in _circles(import_graph(tree))]


def room_circles(tree: Tree) -> list[str]:
    """Return groups of rooms that import each other.

    A room's own files may be the ground of its sub-rooms and their roof, as `serve/app.py` is above `serve/routes/`, which is
    above `serve/service.py`: between a room and its sub-rooms the order of files decides.
    """
    rooms: Graph = defaultdict(set)
    for importer, targets in import_graph(tree).items():
        for room in map(_room, targets):
            if not _is_inside(room, _room(importer)) and not _is_inside(_room(importer), room):
                rooms[_room(importer)].add(room)
    return [f"rooms import each other: {', '.join(circle)}" for circle in _circles(rooms)]


def repeated_names(tree: Tree) -> list[str]:
    """Return module names that occur twice, and those of the standard library."""
    names = Counter(_name(path) for path in tree if not _name(path).startswith("__"))
    return [f"{count} modules are named {name}" for name, count in names.items() if count > 1] + [
        f"{path} has the name of a module of the standard library"
        for path in tree
        if _name(path) in sys.stdlib_module_names
    ]


def loose_modules(tree: Tree) -> list[str]:
    """Return modules at the root of the package that belong into a room."""
    return [f"{path} is in no room" for path in tree if not _room(path) and _name(path) not in BASE_MODULES]


def crowded_rooms(tree: Tree) -> list[str]:
    """Return rooms with too many modules."""
    sizes = Counter(_room(path) for path in tree if not _name(path).startswith("__"))
    return [f"{room} holds {size} modules" for room, size in sizes.items() if size > MAX_MODULES]


def undescribed_rooms(tree: Tree) -> list[str]:
    """Return rooms whose `__init__.py` does not say in two or three sentences what they are for."""
    return [
        f"{room}/__init__.py has a docstring of {count} sentences, not two or three"
        for room in sorted({_room(path) for path in tree} - {""})
        if (count := _sentences(tree.get(f"{room}/__init__.py", ""))) not in (2, 3)
    ]


def cut_classes(tree: Tree) -> list[str]:
    """Return public methods of `WHOLE_CLASSES` that are defined in a base class of another file."""
    return [
        f"{name}.{method} is in {origin}, not in {path}"
        for path, text in tree.items()
        for name, found in _classes(text).items()
        if name in WHOLE_CLASSES
        for method, origin in sorted(_inherited(tree, path, found).items())
        if origin != path
    ]


CHECKS: tuple[Callable[[Tree], list[str]], ...] = (
    upward_imports,
    file_circles,
    room_circles,
    repeated_names,
    loose_modules,
    crowded_rooms,
    undescribed_rooms,
    cut_classes,
)


def package_levels() -> int:
    """Return the number of levels of whole packages: the rooms of one package, such as `indexing`, are one."""
    return len({level[0].split("/")[0] for level in LEVELS})


def import_graph(tree: Tree) -> Graph:
    """Return the files that each file imports.

    The root's `__init__.py` hands out names of all rooms when they are asked for, so it is left out as one that imports.
    """
    return {path: set(_imports(tree, text)) - {path} for path, text in tree.items() if path != "__init__.py"}


def _imports(tree: Tree, text: str) -> Iterator[str]:
    return (found for name in _names_imported(text) if (found := _file_of(tree, name)) is not None)


@cache
def _names_imported(text: str) -> list[str]:
    parsed = _parsed(text)
    never_run = {
        id(child)
        for node in ast.walk(parsed)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for child in ast.walk(statement)
    }
    return [name for node in ast.walk(parsed) if id(node) not in never_run for name in _imported_names(node)]


def _imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and "import_module" in (getattr(node.func, "attr", ""), getattr(node.func, "id", "")):
        return [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
    return []


def _file_of(tree: Tree, name: str) -> str | None:
    """The file of a dotted name: a module, a package, or the one that the name's last part is taken from."""
    package, *parts = name.split(".")
    if package != PACKAGE:
        return None
    for length in (len(parts), len(parts) - 1):
        inside = "/".join(parts[: max(length, 0)])
        for path in (f"{inside}.py", f"{inside}/__init__.py".lstrip("/")):
            if path in tree:
                return path
    return None


def _circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that reach each other, the strongly connected components of more than one node."""
    reached = {node: _reached_from(graph, node) for node in graph}
    groups = {
        tuple(sorted(other for other in reached[node] if node in reached.get(other, ())))
        for node in graph
        if node in reached[node]
    }
    return [list(group) for group in sorted(groups)]


def _reached_from(graph: Graph, start: str) -> set[str]:
    reached: set[str] = set()
    ahead = [start]
    while ahead:
        new = graph.get(ahead.pop(), set()) - reached
        reached |= new
        ahead.extend(new)
    return reached


def _rank(path: str) -> int:
    if path == "__main__.py":
        return len(LEVELS)
    ranks = {room: rank for rank, level in enumerate(LEVELS) for room in level}
    room = _room(path)
    while room not in ranks:
        room = _parent(room)
    return ranks[room]


def _room(path: str) -> str:
    return _parent(path)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _is_inside(room: str, outer: str) -> bool:
    return room == outer or room.startswith(f"{outer}/") or not outer


def _name(path: str) -> str:
    return Path(path).stem


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _sentences(text: str) -> int:
    described = ast.get_docstring(_parsed(text)) or ""
    return len(re.findall(r"[.!?](?=\s|$)", re.sub(r"`[^`]*`", "", described)))


def _classes(text: str) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in _parsed(text).body if isinstance(node, ast.ClassDef)}


def _inherited(tree: Tree, path: str, found: ast.ClassDef) -> dict[str, str]:
    """Public methods of a class with the file that each is defined in, those of base classes in this package included."""
    methods: dict[str, str] = {}
    for base in found.bases:
        name = ast.unparse(base).partition("[")[0]
        origin = _origins(tree, path).get(name, path)
        definition = _classes(tree[origin]).get(name)
        if definition is not None:
            methods |= _inherited(tree, origin, definition)
    own = [node.name for node in found.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return methods | {name: path for name in own if not name.startswith("_")}


def _origins(tree: Tree, path: str) -> dict[str, str]:
    """Names that a file imports from files of this package, with these files."""
    return {
        alias.asname or alias.name: origin
        for node in ast.walk(_parsed(tree[path]))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (origin := _file_of(tree, f"{node.module}.{alias.name}")) is not None
    }
