"""Reads which modules of a package import which, without importing any of them.

It sees imports at the top, inside functions and under ``TYPE_CHECKING``, relative ones, ``import_module`` and its kin
with names that stand in the file, names that an ``__init__`` hands on, and attributes of an imported package
(``bmp.build.load``). It knows no rule about them: ``tests/test_layout.py`` does.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

_BY_NAME = {"import_module", "__import__", "find_spec", "resolve_name", "run_module"}
"""Functions whose first argument names a module."""


@dataclass(frozen=True)
class Import:
    """Module ``importer`` imports ``imported`` in this line of its file; both by their full dotted names.

    A module of another package counts by its full name as well; nothing is left out.
    """

    file: Path
    line: int
    importer: str
    imported: str


def imports_of(package: Path) -> list[Import]:
    """Return every import in the package that lies in the folder ``package``, by file and line."""
    files = {_dotted(file, package): file for file in sorted(package.rglob("*.py"))}
    texts = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    exports = {name: _exports(texts[name], name) if _is_package(file) else {} for name, file in files.items()}
    named = {name: _named(texts[name], name, _is_package(file)) for name, file in files.items()}
    homes = {target: _homes(target, exports) for target in {target for each in named.values() for _, target in each}}
    found = {
        Import(files[name], line, name, home)
        for name, each in named.items()
        for line, target in each
        for home in homes[target]
    }
    return sorted(found, key=lambda one: (one.importer, one.line, one.imported))


def _dotted(file: Path, package: Path) -> str:
    parts = (package.name, *file.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_package(file: Path) -> bool:
    return file.name == "__init__.py"


def _homes(target: str, exports: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Where what is called ``target`` lies: a module, or where the ``__init__`` that hands a name on has it from.

    ``exports`` has all modules of the package, with the names that each hands on.
    """
    if target.partition(".")[0] not in exports:  # another package
        return {target}
    for _ in range(10):  # names are handed on a few times at most
        if target in exports:
            return {target}
        parent, _, name = target.rpartition(".")
        if name == "*" and parent in exports:
            return {parent}.union(*(_homes(home, exports) for home in exports[parent].values()))
        target = exports.get(parent, {}).get(name, parent)
    return {target}


@cache
def _exports(text: str, name: str) -> dict[str, str]:
    """The names that the ``__init__`` of a package hands on, and where from: its imports, and tables for lazy ones."""
    handed = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            base = _base(node, name, True)
            handed.update({alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names})
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                names = [part.value for part in (key, value) if isinstance(part, ast.Constant)]
                if len(names) == 2 and isinstance(names[0], str) and isinstance(names[1], str):
                    handed[names[0]] = f"{names[1]}.{names[0]}"
    top = name.partition(".")[0]
    return {alias: home for alias, home in handed.items() if home.startswith(f"{top}.") and alias != "*"}


def _base(node: ast.ImportFrom, name: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


@cache
def _named(text: str, name: str, is_package: bool) -> tuple[tuple[int, str], ...]:
    """Line and dotted name of everything that the module ``name`` imports."""
    nodes, top = list(ast.walk(ast.parse(text))), name.partition(".")[0]
    bound: dict[str, str] = {}
    found: list[tuple[int, str]] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.append((node.lineno, alias.name))
                bound[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, name, is_package)
            for alias in node.names:
                found.append((node.lineno, f"{base}.{alias.name}"))
                bound[alias.asname or alias.name] = f"{base}.{alias.name}"
    texts = _Texts(nodes)
    for node in nodes:
        if isinstance(node, ast.Call) and _called(node) in _BY_NAME:
            for target in texts.of(_argument(node)):
                plain = target.partition(":")[0]  # resolve_name takes "module:name"
                level = len(plain) - len(plain.lstrip("."))
                if level:
                    plain = _base(ast.ImportFrom(plain[level:], [], level), name, is_package)
                found.append((node.lineno, plain))
        elif isinstance(node, ast.Attribute):
            target = _attribute(node, bound) or ""
            if target.partition(".")[0] == top:
                found.append((node.lineno, target))
    return tuple(found)


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _argument(call: ast.Call) -> ast.expr | None:
    named = [keyword.value for keyword in call.keywords if keyword.arg in ("name", "mod_name")]
    return next(iter([*call.args[:1], *named]), None)


def _attribute(node: ast.expr, bound: Mapping[str, str]) -> str | None:
    """The dotted name of ``a.b.c`` where ``a`` was imported."""
    if isinstance(node, ast.Name):
        return bound.get(node.id)
    if isinstance(node, ast.Attribute) and (base := _attribute(node.value, bound)):
        return f"{base}.{node.attr}"
    return None


class _Texts:
    """The strings that an expression can be, as far as they stand in the same file."""

    def __init__(self, nodes: Sequence[ast.AST]) -> None:
        self._values: dict[str, list[ast.expr]] = {}
        for node in nodes:
            if isinstance(node, ast.Assign):
                pairs = [(target, node.value) for target in node.targets]
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.For | ast.comprehension):
                value = node.value if isinstance(node, ast.AnnAssign | ast.NamedExpr) else node.iter
                pairs = [(node.target, value)] if value else []
            else:
                continue
            for target, value in pairs:
                if isinstance(target, ast.Name):
                    self._values.setdefault(target.id, []).append(value)

    def of(self, node: ast.expr | None, depth: int = 0) -> Iterator[str]:
        """Give them; nothing for what is only known when the program runs."""
        if depth > 5:  # a name that is defined by itself
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name):
            for value in self._values.get(node.id, ()):
                yield from self.of(value, depth + 1)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            for element in node.elts:
                yield from self.of(element, depth + 1)
        elif isinstance(node, ast.Dict):
            for value in node.values:
                yield from self.of(value, depth + 1)
        elif isinstance(node, ast.Subscript | ast.FormattedValue):
            yield from self.of(node.value, depth + 1)
        elif isinstance(node, ast.JoinedStr):
            yield from map("".join, product(*(list(self.of(part, depth + 1)) for part in node.values)))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            yield from map("".join, product(self.of(node.left, depth + 1), self.of(node.right, depth + 1)))
