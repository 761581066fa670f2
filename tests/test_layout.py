"""The arrows that must never be: which room of the package may never import which. Reads files, imports nothing."""

import re
import shutil
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "docs"))

import draw_architecture  # noqa: E402
from imports import imports_of  # noqa: E402 -- the page of the architecture shares what it has read

PACKAGE = ROOT / "pipeline" / "bmp"
ROLES = ("detectors", "poses", "segmenters", "suppression", "parsers", "trackers")
FLOOR = ("ops", "structures", "label_sets", "errors")
PROGRAMS = sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py"))
LOOPS = ("loop", "video_loop", "tracking")
ANY = ("any room",)


@dataclass(frozen=True)
class Rule:
    """No file of the rooms ``importers`` imports one of the rooms ``forbidden``, except its own."""

    row: str
    importers: tuple[str, ...]
    forbidden: tuple[str, ...]
    except_for: tuple[str, ...] = ()

    def forbids(self, importer, imported):
        """Both are the name of a module without that of the package, or of a program after ``benchmarks.``."""
        return (
            _among(importer, self.importers)
            and _among(imported, self.forbidden)
            and not _among(imported, self.except_for)
            and not any(importer.split(".")[0] == imported.split(".")[0] == room for room in self.forbidden)
        )


def _among(place, rooms):
    return rooms == ANY or any(place == room or place.startswith(f"{room}.") for room in rooms)


RULES = [
    Rule(
        "`ops`, `structures`, `label_sets`, `errors` | anything above them",
        FLOOR,
        ANY,
        except_for=FLOOR,
    ),
    Rule("`io` | models, roles, evaluation, config", ("io",), ("models", *ROLES, "evaluation", "config")),
    Rule(
        "`models` | roles, loop, build, datasets, evaluation, training",
        ("models",),
        (*ROLES, "loop", "build", "datasets", "evaluation", "training"),
    ),
    Rule(
        "a role's folder | loop, build, datasets, evaluation, inference, training",
        ROLES,
        ("loop", "build", "datasets", "evaluation", "inference", "training"),
    ),
    Rule("`loop`, `video_loop`, `tracking` | adapters, io, config", LOOPS, (*ROLES, "models", "io", "config")),
    Rule("`evaluation/metrics` | datasets, config, models", ("evaluation.metrics",), ("datasets", "config", "models")),
    Rule(
        "`datasets`, `synthcrowd` | roles, evaluation, training",
        ("datasets", "synthcrowd"),
        (*ROLES, "evaluation", "training"),
    ),
    Rule("`synthcrowd` | also not `datasets`", ("synthcrowd",), ("datasets",)),
    Rule("`evaluation` | training", ("evaluation",), ("training",)),
    Rule("anything | cli, plugins, benchmarks", ANY, ("cli", "plugins", "benchmarks")),
]


def _place(name, package="bmp"):
    """The name as the rules have it; None for other packages."""
    top, _, rest = name.partition(".")
    if top == package:
        return rest or "__init__"
    return f"benchmarks.{name}" if top in (*PROGRAMS, "benchmarks") else None


@cache
def _forbidding(importer, imported):
    """The rows of the rules that forbid this; full names."""
    place = _place(imported)
    return [rule.row for rule in RULES if place and rule.forbids(_place(importer), place)]


def breaches(package):
    """A line for each import that a rule forbids: file, line, what is imported, the rule."""
    return [
        f"{each.file.relative_to(package.parent)}:{each.line} imports {each.imported}; never: {row}"
        for each in imports_of(package)
        for row in _forbidding(each.importer, each.imported)
    ]


@pytest.mark.slow
def test_no_import_goes_where_none_may():
    assert breaches(PACKAGE) == []


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The package's Python files elsewhere."""
    copy = tmp_path_factory.mktemp("planted") / "bmp"
    shutil.copytree(PACKAGE, copy, ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")])
    assert breaches(copy) == []
    return copy


def _rooms(names):
    """The rooms of a rule that exist today; the others are for what is to come."""
    if names == ANY:
        return [path.stem for path in sorted(PACKAGE.iterdir()) if path.suffix == ".py" or list(path.glob("*.py"))]
    return [name for name in names if list(PACKAGE.glob(f"{name.replace('.', '/')}*"))]


def _forbidden(rule, importer):
    """Full names of what a room may not import by this rule."""
    modules = ["bmp" if room == "__init__" else f"bmp.{room}" for room in _rooms(rule.forbidden)]
    programs = ["benchmarks", *PROGRAMS] if "benchmarks" in rule.forbidden else []
    return [name for name in [*modules, *programs] if rule.forbids(importer, _place(name))]


@contextmanager
def _planted(copy, room, text):
    """Add text to a room, in a file of its own where it is a folder; give that file and the number of lines before."""
    folder = copy / room.replace(".", "/")
    file = folder / "deeper" / "planted.py" if folder.is_dir() else folder.with_suffix(".py")
    before = file.read_text() if file.is_file() else ""
    file.parent.mkdir(exist_ok=True)
    file.write_text(before + text)
    try:
        yield file, len(before.splitlines())
    finally:
        file.write_text(before)


# Ways to import a module: {0} is its full name, {1} that of its parent, {2} its own, {3} its name from the file on.
FORMS = {
    "plain": "import {0}",
    "renamed": "import {0} as planted",
    "from its folder": "from {1} import {2}",
    "renamed from its folder": "from {1} import {2} as planted",
    "from it": "from {0} import anything",
    "all of it": "from {0} import *",
    "relative": "from {3} import anything",
    "in a function": "def planted():  from {0} import anything",
    "in a method": "class Planted: method = lambda self: __import__('{0}')",
    "for types": "if TYPE_CHECKING: from {0} import Anything",
    "by name": "importlib.import_module('{0}')",
    "by keyword": "importlib.import_module(package=None, name='{0}')",
    "by relative name": "import_module('{3}', __package__)",
    "by constant": "import_module(NAME)",
    "in a loop": "for name in ('math', '{0}'): import_module(name)",
    "from a table": "import_module(TABLE['key'])",
    "pieced together": "import_module('{1}' + '.{2}')",
    "formatted": "import_module(f'{1}.{{OWN}}')",
    "looked for": "importlib.util.find_spec('{0}')",
    "resolved": "pkgutil.resolve_name('{0}:anything')",
    "attribute": "import {1} as root; root.{2}.anything()",
}
CONSTANTS = "NAME = '{0}'; TABLE = {{'key': '{0}'}}; OWN = '{2}'"


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=[rule.row for rule in RULES])
def test_whatever_a_row_forbids_is_caught(copied, rule):
    """From each room to each room, one import a line."""
    assert _rooms(rule.importers)
    expected = []
    with ExitStack() as planted:
        for importer in _rooms(rule.importers):
            names = _forbidden(rule, importer)
            assert names
            lines = "".join(f"import {name}\n" for name in names)
            file, above = planted.enter_context(_planted(copied, importer, lines))
            place = file.relative_to(copied.parent)
            expected += [f"{place}:{above + i} imports {name}; never: {rule.row}" for i, name in enumerate(names, 1)]
        found = [line for line in breaches(copied) if line.endswith(f"never: {rule.row}")]
    assert sorted(found) == sorted(expected)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=[rule.row for rule in RULES])
def test_it_is_caught_in_whatever_way_it_is_imported(copied, rule):
    importer = _rooms(rule.importers)[0]
    name = next(name for name in _forbidden(rule, importer) if name.count(".") == 1)
    with _planted(copied, importer, "") as (file, above):
        place = file.relative_to(copied.parent)
    parent, _, own = name.rpartition(".")
    relative = "." * (len(place.parts) - 1) + own
    lines = [form.format(name, parent, own, relative) for form in (CONSTANTS, *FORMS.values())]
    with _planted(copied, importer, "\n".join(lines)):
        found = [line.partition(" ")[0] for line in breaches(copied) if line.endswith(f"never: {rule.row}")]
    missed = {form for i, form in enumerate(FORMS, 2) if f"{place}:{above + i}" not in found}
    assert not missed


@pytest.mark.slow
@pytest.mark.parametrize(("name", "home"), [("load", "build"), ("BMP", "api")])
def test_names_that_the_package_hands_on_count_for_where_they_come_from(copied, name, home):
    """``from bmp import load`` is an import of ``bmp.build``, also where it is an attribute."""
    for text in (f"from bmp import {name}", f"from .. import {name}", f"import bmp; bmp.{name}"):
        with _planted(copied, "ops", text.replace("..", "...")):
            assert any(f"imports bmp.{home}; never" in line for line in breaches(copied)), text


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["from bmp import UserError", "import math, torch", "from bmp.ops import boxes", "'bmp.cli'"]
)
def test_what_is_allowed_is_not_caught(copied, text):
    with _planted(copied, "ops", text):
        assert breaches(copied) == []


class TestArchitecture:
    """The page and the picture are as old as the code; ``python docs/draw_architecture.py`` renews them."""

    def test_every_room_is_on_the_page_and_no_other(self):
        assert sorted(draw_architecture.ROOMS) == sorted(room.name for room in draw_architecture.rooms())

    @pytest.mark.slow
    def test_no_import_goes_backwards(self):
        assert draw_architecture.backward() == []

    @pytest.mark.slow
    def test_the_table_of_imports_is_that_of_the_code(self):
        assert draw_architecture.imports_table() in draw_architecture.PAGE.read_text()

    def test_the_numbers_of_lines_are_about_right(self):
        text = draw_architecture.PAGE.read_text()
        printed = {
            room: int(number) for room, number in re.findall(r"^\| `([\w.]+)/?` \| (\d+) \|", text, re.MULTILINE)
        }
        for room in draw_architecture.rooms():
            assert printed[room.name] == pytest.approx(draw_architecture.lines(room), rel=0.4, abs=40), room.name

    def test_the_picture_was_drawn_by_the_script_as_it_is(self):
        from PIL import Image

        with Image.open(draw_architecture.PICTURE) as picture:
            assert picture.info["Comment"] == draw_architecture.fingerprint()
