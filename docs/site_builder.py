"""Builds the site of the documentation: ``python docs/site_builder.py``, or ``make docs``.

The folder that it is built from mirrors the repository: README is its first page, the pages of ``docs/`` lie where they
lie here, and so does whatever they link to, so that a link is right in the repository and on the site at once. The two
pages of references are made here: that of the commands from their parsers, that of the API from the docstrings. It
knows nothing of what the pages say; which there are and in which order stands in ``mkdocs.yml``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import bmp

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/*.md", "third_party/**/README.md")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")

# Each command with its module and the words that come before --help.
COMMANDS = {
    "bmp": ("bmp.cli", ()),
    "bmp track": ("bmp.cli", ("track",)),
    "bmp convert": ("bmp.cli", ("convert",)),
    "bmp label": ("bmp.cli", ("label",)),
    "bmp merge": ("bmp.cli", ("merge",)),
    "bmp export": ("bmp.cli", ("export",)),
    "bmp serve": ("bmp.cli", ("serve",)),
    "bmp doctor": ("bmp.cli", ("doctor",)),
    "python -m bmp.inference.keypoints": ("bmp.inference.keypoints", ()),
    "python -m bmp.synthcrowd": ("bmp.synthcrowd.__main__", ()),
    "python -m bmp.training": ("bmp.training.__main__", ()),
    "python -m bmp.datasets.cihp": ("bmp.datasets.cihp", ()),
}

# The modules on the page of the API, after the names of the package itself.
API = {
    "bmp.structures": "The records that stages exchange",
    "bmp.stages": "The protocols that a stage of yours fits",
    "bmp.label_sets": "What keypoints and parts mean",
    "bmp.ops.boxes": "Boxes",
    "bmp.ops.masks": "Masks",
    "bmp.ops.oks": "Similarity of poses",
}


def main() -> int:
    """Build the site in ``output/site`` and check its links; 0 if all are right."""
    source, built = ROOT / "output" / "site-source", ROOT / "output" / "site"
    for folder in (source, built):
        shutil.rmtree(folder, ignore_errors=True)
    gather(source)
    build = [
        sys.executable,
        "-m",
        "zensical",
        "build",
        "--clean",
        "--strict",
        "--config-file",
        str(ROOT / "mkdocs.yml"),
    ]
    code = subprocess.run(build, cwd=ROOT).returncode
    if code:
        return code
    broken = list(broken_links(built))
    print(*broken, f"{len(list(built.rglob('*.html')))} pages in {built}, {len(broken)} broken links", sep="\n")
    return 1 if broken else 0


def gather(folder: Path) -> None:
    """Write what the site is built from: the pages, the files that they link to, and the two pages of references."""
    pages = [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]
    for page in pages:
        _copy(page, folder)
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            linked = (page.parent / unquote(target)).resolve()
            if linked.is_file() and linked.is_relative_to(ROOT) and linked not in pages:
                _copy(linked, folder)
    # The first page of a site is index.md, and links to README are to it.
    (folder / "README.md").rename(folder / "index.md")
    for page in (folder / file.relative_to(ROOT) for file in pages if file != ROOT / "README.md"):
        _link_to_index(page, folder)
    (folder / "docs" / "commands.md").write_text(commands_page(), encoding="utf-8")
    (folder / "docs" / "api.md").write_text(api_page(), encoding="utf-8")


def _link_to_index(page: Path, folder: Path) -> None:
    def changed(link: re.Match[str]) -> str:
        return f"]({link[1]}index.md" if (page.parent / link[1]).resolve() == folder else link[0]

    text = page.read_text(encoding="utf-8")
    page.write_text(re.sub(r"\]\(((?:\.\./)+)README\.md", changed, text), encoding="utf-8")


def _copy(file: Path, folder: Path) -> None:
    target = folder / file.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def commands_page() -> str:
    """Return the page of the commands in Markdown, as their parsers describe them."""
    parts = ["# Commands", "What each command says with `--help`."]
    for command, (module, words) in COMMANDS.items():
        parts.append(f"## {command}\n\n```text\n{help_of(module, *words)}```")
    return "\n\n".join(parts) + "\n"


def help_of(module: str, *words: str) -> str:
    """Return what the command in a module prints with ``--help``, in lines of 100 characters."""
    text, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            importlib.import_module(module).main([*words, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    return text.getvalue()


def api_page() -> str:
    """Return the page of the API in Markdown; mkdocstrings puts the docstrings in."""
    homes = [f"{getattr(bmp, name).__module__}.{name}" for name in bmp.__all__]
    parts = ["# API", "## What a program of yours imports from `bmp`", *(f"::: {home}" for home in homes)]
    parts += [f"## {title}\n\n::: {module}" for module, title in API.items()]
    return "\n\n".join(parts) + "\n"


class _Page(HTMLParser):
    """Notes the places and the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Read one element."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.names.add(value)
            elif (name == "href" or (name == "src" and tag != "script")) and value:
                self.links.append(value)


def broken_links(site: Path) -> Iterator[str]:
    """Yield a line for each link of a built site to a page, a file or a section of its own that is not there."""
    pages = {}
    for file in sorted(site.rglob("*.html")):
        pages[file] = _Page()
        pages[file].feed(file.read_text(encoding="utf-8"))
    for file, page in pages.items():
        if file.name == "404.html":  # its links start from the address of the site, whatever that is
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                yield f"{file.relative_to(site)}: {link}: there is no such page"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
                yield f"{file.relative_to(site)}: {link}: the page has no such section"


if __name__ == "__main__":
    sys.exit(main())
