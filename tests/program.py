"""The commands on the fake stages: called in this process, in forked ones, or started anew for signals and exit codes."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from unittest import mock

import pytest
from fakes import scene
from PIL import Image as PILImage

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
pipeline = dict(
    detector=dict(type="fakes.FakeDetector"),
    pose=dict(type="fakes.FakePose"),
    segmenter=dict(type="fakes.FakeSegmenter"),
    suppressor=dict(type="OKSSuppressor"),
)
"""
FRONT, BEHIND = (20, 10, 30, 20), (15, 5, 40, 30)
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), str(ROOT / "tests")]),
    "COLUMNS": "200",
}


def save(path, *squares):
    """Write a picture of squares, see ``fakes.scene``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(scene(*squares).pixels.numpy()).save(path)
    return path


def start(folder, *arguments, config="config.py", launcher=()):
    """Start the program in ``folder``; ``launcher`` are arguments of Python that come before the program."""
    command = [sys.executable, *launcher, str(ROOT / "run_bmp.py"), "--config", config, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells start what they put into the background with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(folder, *arguments, config="config.py"):
    """Call ``bmp --config CONFIG`` in ``folder``; see ``main_in``."""
    return main_in(folder, "--config", config, *arguments)


def main_in(folder, *arguments, main=None):
    """Call the ``main`` of a command (``bmp`` by default) in ``folder``, as if a user had started it there.

    Returns the exit code and what went to each of the two streams, also from libraries that are not written in Python.
    An error that leaves ``main`` is printed with its traceback and gives code 1, as Python does it. Afterwards this
    process is as before: its folder, environment, ``sys.path``, signal handlers, warning filters and log handlers, and
    modules that lie in ``folder`` are forgotten, so that another folder may have others of the same name.
    """
    if main is None:
        from bmp.cli import main
    with (
        _captured(1) as out,
        _captured(2) as err,
        _working_in(folder),
        open(1, "w", encoding="utf-8", closefd=False) as stdout,
        open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False) as stderr,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        code = _exit_code(main, [str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def script(arguments):
    """Run a Python file with its arguments as ``python FILE ...`` does; a ``main`` for the functions of this module."""
    with mock.patch.object(sys, "argv", list(arguments)):
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        runpy.run_path(arguments[0], run_name="__main__")


def together(folder, *arguments, main, count=2):
    """Call a command in ``count`` processes, as ``torchrun`` would; return of each what ``main_in`` does, by rank.

    They are forked as ``begin`` says.
    """
    context = _server()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes, processes = [], []
    for rank in range(count):
        receiver, sender = context.Pipe(duplex=False)
        environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
        environment |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": 1, "CUDA_VISIBLE_DEVICES": ""}
        processes.append(begin(folder, *arguments, main=main, pipe=sender, **environment))
        sender.close()
        pipes.append(receiver)
    try:
        return [pipe.recv() if pipe.poll(300) else pytest.fail("a process takes minutes") for pipe in pipes]
    finally:
        for process in processes:
            process.join(30)
            process.kill()


def begin(folder, *arguments, main, pipe=None, **environment):
    """Call a command in a process of its own and do not wait for it; return the process, which may be killed.

    It is forked from a server that has loaded what most commands need, which starts once a session: nothing of this
    process is in it. The pipe gets what ``main_in`` returns.
    """
    environment = os.environ | {name: str(value) for name, value in environment.items()}
    process = _server().Process(target=_by_itself, args=(pipe, environment, folder, arguments, main))
    process.start()
    return process


def _server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed", "bmp.training.__main__", "bmp.training.pose", "mmdet.models"])
    return context


def _by_itself(pipe, environment, folder, arguments, main):
    import torch

    os.environ.clear()  # the server's is that of its start
    os.environ.update(environment)
    torch.set_num_threads(1)
    result = main_in(folder, *arguments, main=main)
    if pipe is not None:
        pipe.send(result)


def _exit_code(main, arguments):
    try:
        code = main(arguments)
    except SystemExit as stopped:  # of argparse, for one
        code = stopped.code
    except BaseException:
        traceback.print_exc()
        return 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        return 1
    return code or 0


@contextlib.contextmanager
def _captured(descriptor):
    """Give a StringIO that holds, after the block, what was written to a file descriptor."""
    text = io.StringIO()
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        before = os.dup(descriptor)
        os.dup2(file.fileno(), descriptor)
        try:
            yield text
        finally:
            os.dup2(before, descriptor)
            os.close(before)
            file.seek(0)
            text.write(file.read().decode())


@contextlib.contextmanager
def _working_in(folder):
    """Work in ``folder``, then restore what commands and the libraries they load change for the whole process."""
    importlib.invalidate_caches()  # the folder was written a moment ago
    before, modules = Path.cwd(), set(sys.modules)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    loggers = {logger: (list(logger.handlers), logger.level) for logger in map(logging.getLogger, (None, "bmp"))}
    with (
        mock.patch.dict(os.environ, COLUMNS="200"),
        mock.patch.object(sys, "path", [*sys.path]),
        mock.patch.object(sys, "argv", ["bmp"]),
        warnings.catch_warnings(),
    ):
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
            for logger, (handlers_before, level) in loggers.items():
                logger.handlers[:] = handlers_before
                logger.setLevel(level)
            for name in set(sys.modules) - modules:
                if _lies_in(Path(folder).resolve(), sys.modules[name]):
                    del sys.modules[name]


def _lies_in(folder, module):
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(folder)
