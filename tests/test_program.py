"""The runner of commands in this process: what it captures, and that it leaves the process as it was."""

import logging
import os
import signal
import sys
from pathlib import Path

import pytest
from program import main_in


def _state():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    streams = sys.stdout, sys.stderr, os.fstat(1).st_ino, os.fstat(2).st_ino
    root = logging.getLogger()
    return Path.cwd(), list(sys.path), dict(os.environ), handlers, streams, root.level, list(root.handlers)


def test_both_streams_are_captured_down_to_their_descriptors(tmp_path):
    def main(arguments):
        print("from Python:", *arguments)
        print("à la ligne", file=sys.stderr)
        sys.stdout.flush()
        os.write(1, b"from C\n")
        os.write(2, b"error in C\n")
        return 3

    code, out, err = main_in(tmp_path, "a", 1, main=main)
    assert (code, out) == (3, "from Python: a 1\nfrom C\n")
    assert sorted(err.splitlines()) == ["error in C", "à la ligne"]


@pytest.mark.parametrize(
    ("stopped", "code", "err"),
    [
        (SystemExit(2), 2, ""),
        (SystemExit(), 0, ""),
        (SystemExit("gone"), 1, "gone\n"),
        (ZeroDivisionError("never"), 1, "Traceback (most recent call last):"),
        (KeyboardInterrupt(), 1, "Traceback (most recent call last):"),
    ],
)
def test_exceptions_become_what_python_makes_of_them(tmp_path, stopped, code, err):
    def main(arguments):
        raise stopped

    found = main_in(tmp_path, main=main)
    assert found[:2] == (code, "")
    assert found[2].startswith(err)
    assert bool(found[2]) == bool(err)


@pytest.mark.parametrize("how", [0, KeyboardInterrupt()])
def test_the_process_is_as_before(tmp_path, how):
    def main(arguments):
        assert Path.cwd() == tmp_path.resolve()
        assert os.environ["COLUMNS"] == "200"
        sys.path.insert(0, "")
        os.chdir("/")
        os.environ["MADE_UP"] = "1"
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        logging.getLogger().addHandler(logging.StreamHandler())
        logging.getLogger().setLevel(logging.DEBUG)
        if how:
            raise how
        return 0

    before = _state()
    main_in(tmp_path, main=main)
    assert _state() == before


def test_folders_may_have_modules_of_the_same_name(tmp_path):
    def main(arguments):
        sys.path.insert(0, "")
        import stages_of_this_test

        print(stages_of_this_test.NUMBER)

    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "stages_of_this_test.py").write_text(f"NUMBER = {number}")
        assert main_in(folder, main=main) == (0, f"{number}\n", "")
