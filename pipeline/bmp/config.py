"""Finds and reads config files, and overrides their values; knows no pipeline and no stage."""

from __future__ import annotations

import ast
import logging
import re
import tempfile
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from mmengine.config import Config

from bmp.errors import UserError, choices

ConfigSection: TypeAlias = Mapping[str, Any]
"""A config or a part of one: plain Python values by name."""

_HERE = Path(__file__).resolve().parent
_LOGGER = logging.getLogger(__name__)
CONFIG_FOLDERS = (_HERE / "configs", _HERE.parents[1] / "configs")  # in an installed wheel; in a checkout


def load_config(name: str | Path, overrides: ConfigSection | None = None) -> Config:
    """Read a config, by the name of one of the package or by its path; see ``existing_config``."""
    config = read_config_file(_find_config(name))
    for key, value in (overrides or {}).items():
        _override(config, key, value)
    return config


def drawn_score_of(config: Config, name: str | Path) -> float:
    """Return the score below which people are not shown, as the config called ``name`` says."""
    score: Any = config.get("min_score", 0.0)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise UserError(f"config {name}: expected min_score to be a number from 0 to 1, got {score!r}")
    return float(score)


def parse_overrides(settings: Iterable[str]) -> dict[str, Any]:
    """Parse ``key=value`` strings; a value is a Python literal, true, false or none in any case, else a string."""
    words = {"true": True, "false": False, "none": None}
    overrides = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {setting}: expected key=value, for example --set pipeline.rounds=1")
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = words.get(text.lower(), text)
        overrides[key.strip()] = value
    return overrides


def config_names() -> list[str]:
    """Names of the presets that come with the package."""
    folder = next((folder for folder in CONFIG_FOLDERS if folder.is_dir()), None)
    if folder is None:
        return []
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.py") if p.parent == folder)


def presets() -> dict[str, str]:
    """Return the presets that come with the package: for each name the first sentence of its docstring.

    Examples:
        >>> presets()["lite.py"]
        'Small models (16 MB) that run anywhere in less than a second an image and need no model hub.'
    """
    found = {}
    for name in config_names():
        path = packaged(name)
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path else None
        found[name] = " ".join((text or "").split("\n\n")[0].split())
    return found


def read_config_file(path: Path) -> Config:
    """Read a config and its bases; ``UserError`` where that fails."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = Config.fromfile(_with_bases_found(path.absolute(), Path(folder)))
    except Exception as error:  # a config is a program of the user's: anything can happen in it
        reason = " ".join(str(error).split())
        # mmengine leaves a file open where it fails; it is closed with the variables that hold it.
        traceback.clear_frames(error.__traceback__)
        raise UserError(f"config {path} cannot be read: {type(error).__name__}: {reason}") from error
    # Else yapf lays out the text, at each checkpoint, in tenths of a second. mmengine's ``fromfile`` takes this as an
    # argument, and forgets it for configs that are not imported lazily.
    object.__setattr__(config, "_format_python_code", False)
    return config


def _find_config(name: str | Path) -> Path:
    found = packaged(name)
    if found is None:
        raise UserError(f"config {str(name)!r} does not exist; {choices(str(name), config_names())}, or give a path")
    return found


def packaged(name: str | Path) -> Path | None:
    """Find a file of the ``configs`` of this package, else one by its path; see ``existing_config``."""
    return existing_config(name, *CONFIG_FOLDERS)


def existing_config(name: str | Path, *folders: Path) -> Path | None:
    """Return the file that ``name`` means, with or without ``.py``; None if there is none.

    A name is that of a file within ``folders`` before it is a path, so that no file in the working folder replaces one
    of the package. A ``Path``, and text that is absolute or begins with a dot ("./lite.py"), is a path first.
    """
    given = [Path(name)]
    within = [folder / name for folder in folders]
    is_path = isinstance(name, Path) or Path(name).is_absolute() or name.startswith(".")
    bases = given + within if is_path else within + given
    candidates = (path for base in bases if base.name for path in (base, base.with_name(f"{base.name}.py")))
    found = next((path for path in candidates if path.is_file()), None)
    if not is_path and found not in (None, Path(name)) and Path(name).is_file():
        _LOGGER.warning("%s means the package's; the file of that name in the working folder is ./%s", name, name)
    return found


def _with_bases_found(path: Path, folder: Path, heirs: tuple[Path, ...] = ()) -> Path:
    """Return the config at ``path``, or a copy in ``folder`` that says where its bases are.

    mmengine looks for a base beside the file that names it; ours may be among the configs of the package, too. Where
    all are beside it, in their turn as well, there is nothing to copy.

    heirs: the configs that this one is a base of, the nearest last.
    """
    if path in heirs:
        circle = " -> ".join(file.name for file in (*heirs[heirs.index(path) :], path))
        raise ValueError(f"its bases go round in a circle, {circle}")
    text = path.read_text(encoding="utf-8")
    value = _base_value(text, path) if path.suffix == ".py" else None
    try:
        named = ast.literal_eval(value) if value else []
    except ValueError:  # computed, so that mmengine's own rule holds
        return path
    names = [named] if isinstance(named, str) else list(named)
    beside = [name if "::" in name else str(path.parent / name) for name in names]
    found = [
        name if "::" in name else str(_with_bases_found(_find_base(name, path), folder, (*heirs, path)))
        for name in names
    ]
    if value is None or found == beside:
        return path
    for template, meaning in (
        ("fileDirname", path.parent.as_posix()),
        ("fileBasename", path.name),
        ("fileBasenameNoExtension", path.stem),
        ("fileExtname", path.suffix),
    ):
        text = re.sub(rf"\{{\{{\s*{template}\s*\}}\}}", meaning.replace("\\", r"\\"), text)
    copied = Path(tempfile.mkdtemp(dir=folder), path.name)
    copied.write_text(_replaced(text, _base_value(text, path), repr(found)), encoding="utf-8")
    return copied


def _base_value(text: str, path: Path) -> ast.expr | None:
    """Return the value that a config gives to ``_base_``."""
    for statement in ast.parse(text, str(path)).body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "_base_" for target in statement.targets
        ):
            return statement.value
    return None


def _find_base(name: str, path: Path) -> Path:
    """Find a base beside the config at ``path`` that names it, else among the configs of the package."""
    for folder in (path.parent, *CONFIG_FOLDERS):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"its base {name!r} is neither beside it nor among the configs of the package")


def _replaced(text: str, old: ast.expr | None, new: str) -> str:
    """Put ``new`` in place of an expression; the code after it stays on its lines."""
    assert old is not None
    assert old.end_lineno is not None
    lines = text.encode().splitlines(keepends=True)  # offsets of ast count bytes
    head = b"".join(lines[: old.lineno - 1]) + lines[old.lineno - 1][: old.col_offset]
    tail = lines[old.end_lineno - 1][old.end_col_offset :] + b"".join(lines[old.end_lineno :])
    breaks = "\n" * (old.end_lineno - old.lineno)
    return f"{head.decode()}({new}{breaks}){tail.decode()}"


def _override(config: Config, key: str, value: object) -> None:
    """Replace one value; everything on the way to it has to exist, so that a misspelt key is not a silent no-op."""
    *parents, last = key.split(".")
    if parents in (["evaluation"], ["sam_pt"]):
        config.setdefault(parents[0], {})  # all of its settings have defaults, and their names are checked later
    node: Any = config
    for depth, name in enumerate([*parents, last]):
        options = list(node.keys()) if isinstance(node, Mapping | Config) else None
        where = ".".join(key.split(".")[:depth])
        if options is None:
            raise UserError(f"--set {key}: {where} is a plain value, {node!r}; there is nothing to set inside it")
        # Inside a stage a new key may be one of its arguments that has a default: building it checks that.
        is_open = depth == len(parents) and (where in ("pipeline", "evaluation", "sam_pt") or "type" in options)
        if name not in options and not is_open:
            raise UserError(f"--set {key}: {where or 'the config'} has no {name!r}; {choices(name, options)}")
        if depth < len(parents):
            node = node[name]
    node[last] = value
