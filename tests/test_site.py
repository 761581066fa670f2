"""The site of the documentation: its references, its links, and the notebook, which runs from top to bottom."""

import ast
import json
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "docs"))

import site_builder  # noqa: E402


def pages_of(nav):
    for entry in nav:
        for value in entry.values():
            yield from pages_of(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation():
    nav = list(pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    written = {str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md")}
    assert {page for page in nav if page.startswith("docs/")} == written | {"docs/commands.md", "docs/api.md"}
    assert len(nav) == len(set(nav))


def test_the_page_of_commands_is_that_of_the_parsers():
    page = site_builder.commands_page()
    assert page.count("\nusage: ") + page.count("```text\nusage: ") >= len(site_builder.COMMANDS)
    for option in ("--resume", "--masks", "--to FORMAT", "--splits"):
        assert option in page


def test_broken_links_are_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text('<h1 id="top"></h1><a href="a/#there">x</a><a href="https://a.b/c">x</a>')
    (tmp_path / "a/index.html").write_text(
        '<p id="there"><a href="../#top">x</a><a href="#here">x</a><img src="b.png">'
    )
    assert list(site_builder.broken_links(tmp_path)) == [
        "a/index.html: #here: the page has no such section",
        "a/index.html: b.png: there is no such page",
    ]


def shown_by(cells):
    """Run cells as Jupyter does, but in this process; yield what the last line of each is shown as, by media type."""
    display, names = pytest.importorskip("IPython.core.formatters").DisplayFormatter(), {}
    for cell in cells:
        tree = ast.parse(cell)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        if last and (value := eval(compile(ast.Expression(last.value), "cell", "eval"), names)) is not None:
            yield display.format(value)[0]


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(monkeypatch):
    pytest.importorskip("ai_edge_litert")
    cells = [
        cell
        for cell in json.loads((ROOT / "docs/first_look.ipynb").read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    assert not any(cell["outputs"] for cell in cells)
    monkeypatch.chdir(ROOT / "docs")
    assert ["image/png" in shown for shown in shown_by("".join(cell["source"]) for cell in cells)] == [True, True]
