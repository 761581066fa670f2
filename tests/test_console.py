"""The frame of commands by itself; what it does around the program is in tests/e2e/test_commands.py."""

import argparse
import io
import logging
import sys

import pytest

from bmp.console import Parser, add_volume, expect_both, plain, progress, run_command, share, whole
from bmp.errors import MissingExtraError, UserError


def _parser():
    parser = Parser("python -m bmp.some", {"--conf": "--level"}, description="d")
    parser.add_argument("--level", type=share)
    parser.add_argument("words", nargs="*")
    add_volume(parser)
    return parser


@pytest.mark.parametrize(
    ("outcome", "code", "line"),
    [
        (3, 3, ""),
        (UserError("wrong\nhere"), 2, "bmp.some: wrong here\n"),
        (MissingExtraError("this", "that", "lite"), 2, "bmp.some: this needs that; run `pip install -e"),
        (KeyboardInterrupt(), 130, "bmp.some: interrupted; go on\n"),
        (KeyError("x"), 1, "bmp.some: unexpected KeyError: 'x'; --debug shows where\n"),
    ],
)
def test_the_end_of_the_work_is_an_exit_code_and_a_line(capsys, outcome, code, line):
    def work(options):
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    assert run_command(_parser(), work, [], interrupted="go on") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == bool(line)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, ""),
        (["--lev", "0"], 2, "no option --lev; did you mean --level?"),
        (["--conf=3"], 2, "no option --conf; did you mean --level?"),
        (["--zzz"], 2, "no option --zzz; --help lists all"),
        (["--level", "2"], 2, "expected a number from 0 to 1, got '2'"),
        (["-q", "-v"], 2, "not allowed with argument"),
    ],
)
def test_options_are_answered_in_one_line(capsys, arguments, code, words):
    assert run_command(_parser(), lambda options: 9, arguments, interrupted="") == code
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == bool(words)


def test_words_may_stand_between_options():
    found = _parser().parse_args(["a", "--level", "0.5", "b", "-q", "c"])
    assert (found.words, found.level) == (["a", "b", "c"], 0.5)


@pytest.mark.parametrize("value", ["-20,10,50,60", "-.5,3", "-3"])
def test_a_value_may_begin_with_a_minus(value):
    parser = _parser()
    parser.add_argument("--boxes", nargs="+")
    assert parser.parse_args(["in.jpg", "--boxes", value, "1,2,3,4"]).boxes == [value, "1,2,3,4"]


@pytest.mark.parametrize(("arguments", "shown"), [([], ["warning"]), (["-q"], []), (["-v"], ["note", "warning"])])
def test_the_logger_follows_the_volume(capsys, arguments, shown):
    logger = logging.getLogger("bmp.any")

    def work(options):
        logger.info("note")
        logger.warning("warning")
        return 0

    before = logging.getLogger("bmp").handlers[:]
    assert run_command(_parser(), work, arguments, interrupted="") == 0
    assert capsys.readouterr().err.splitlines() == [f"bmp.some: {word}" for word in shown]
    assert logging.getLogger("bmp").handlers == before


def test_a_stream_that_breaks_costs_words_not_work(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    errors = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", errors)
    done = []

    def work(options):
        print("words")
        done.append(True)
        return 0

    assert run_command(_parser(), work, [], interrupted="") == 1
    assert done
    assert (
        errors.getvalue() == "bmp.some: stdout cannot be written, No space left on device; everything else was done\n"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("a\n  b\t", "a b"),
        ("\x1b[31m\u202e", "\\x1b[31m\\u202e"),
        ("\udcff \u00fc", "\udcff \u00fc"),
    ],
)
def test_text_is_one_line_that_changes_no_terminal(text, shown):
    assert plain(text) == shown


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "\u0663", "9" * 5000, "+2", "1e3"])
def test_what_is_no_whole_number(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number from 1"):
        whole(1)(text)


def test_two_options_go_together():
    given = argparse.Namespace(first=None, second="x")
    with pytest.raises(UserError, match="--second needs --first DIR beside it: why"):
        expect_both(given, "--first DIR", "--second FILE", "why")
    assert not expect_both(argparse.Namespace(first=None, second=None), "--first", "--second", "")
    assert expect_both(argparse.Namespace(first=1, second=2), "--first", "--second", "")


def test_progress_says_lines_and_nothing_when_quiet(capsys):
    for quiet in (False, True):
        with progress(quiet, 2) as (say, advance):
            say("[bold]x[/bold]")
            advance()
    assert capsys.readouterr().out == "[bold]x[/bold]\n"
