"""The examples in the docstrings of the package are run, module by module, and give what they show."""

import contextlib
import doctest
import importlib
import io
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "pipeline" / "bmp"
WITH_EXAMPLES = [
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def check(name):
    """Run the examples of a module; there is at least one."""
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        done = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert done.attempted
    assert not done.failed, report.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_give_what_they_show(name, tmp_path, monkeypatch):
    """In an empty folder, with the stages of ``fakes.py`` at hand."""
    monkeypatch.chdir(tmp_path)
    check(name)


def test_a_wrong_example_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "wrong_examples.py").write_text('"""One.\n\n>>> 1 + 1\n3\n"""')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    with pytest.raises(AssertionError, match=r"1 \+ 1\s+Expected:\s+3\s+Got:\s+2"):
        check("wrong_examples")
