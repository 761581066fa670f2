"""The command ``bmp serve``: a page to review people on, and an address for programs. Knows files and options."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bmp import __version__
from bmp.console import Parser, add_volume, open_console, plain, run_command, share, whole
from bmp.errors import UserError
from bmp.io.atomic import alone_in, writing
from bmp.io.json_fields import JsonObject

if TYPE_CHECKING:
    from fastapi import FastAPI
    from mmengine.config import Config

    from bmp.apps.access import Gate
    from bmp.apps.review import Photo
    from bmp.apps.web import Limits

UPLOADS = "uploads"
_DEFAULT = "lite.py"
_SECONDS_TO_END = 10  # for requests that are being answered when the server is stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    return run_command(_parser(), _serve, arguments, interrupted="all edits are in people.json or its journal")


def _parser() -> Parser:
    parser = Parser(
        "bmp serve",
        description="Open a page in the browser on which people of photos are looked through and put right, and answer "
        "programs at POST /predict. The same command goes on where the last one ended.",
        epilog="exit codes: 0 stopped by Ctrl-C or SIGTERM, everything written; 2 wrong use",
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="photos, folders, patterns for the queue")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("bmp-output"), metavar="DIR", help="folder with people.json"
    )
    parser.add_argument(
        "-c", "--config", help=f"path or name of a config (default: that of DIR/people.json, else {_DEFAULT})"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    parser.add_argument(
        "--min-score",
        type=share,
        metavar="S",
        help="leave out people that score below S (default: what the config does not draw; that of DIR/people.json)",
    )
    parser.add_argument(
        "--parts",
        action="store_true",
        help="tell the parts of everybody's body: with the config's parser, or coarsely from masks and skeletons",
    )
    parser.add_argument("--device", default="auto", help="as for bmp (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=whole(0), default=8000, help="0 for any (default: %(default)s)")
    parser.add_argument(
        "--token",
        metavar="TEXT",
        help="ask for this token; at other addresses than this machine's one is always asked for",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--queue", type=whole(1), default=8, help="requests of programs that wait (default: %(default)s)"
    )
    limits.add_argument(
        "--max-body", type=whole(1), default=64, metavar="MB", help="of a request (default: %(default)s)"
    )
    limits.add_argument(
        "--max-pixels", type=whole(1), default=40, metavar="MP", help="of a photo (default: %(default)s)"
    )
    limits.add_argument("--max-pictures", type=whole(1), default=16, help="of a request (default: %(default)s)")
    limits.add_argument(
        "--cache", type=whole(1), default=512, metavar="MB", help="of what the segmenter keeps (default: %(default)s)"
    )
    add_volume(parser)
    return parser


def _serve(options: argparse.Namespace) -> int:
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"bmp serve needs {error.name or 'more packages'}; pip install 'bmp-pose[web]', or in a checkout -e .[web]"
        ) from None
    from bmp.apps.access import Gate, is_local
    from bmp.apps.web import Limits

    if options.port > 65535:
        raise UserError(f"--port: expected at most 65535, got {options.port}")
    if options.token is not None and (not options.token.strip() or not options.token.isprintable()):
        raise UserError("--token: expected some letters or digits")
    token = options.token or (None if is_local(options.host) else secrets.token_urlsafe(24))
    limits = Limits(options.max_body * 2**20, float(options.max_pixels), options.max_pictures)
    output: Path = options.output
    with writing(output, "choose another --output"):
        output.mkdir(parents=True, exist_ok=True)
    with alone_in(output), opened(options, limits) as app:
        return _listen(options, Gate(app, token, limits.body), token)


@contextlib.contextmanager
def opened(options: argparse.Namespace, limits: Limits) -> Iterator[FastAPI]:
    """Build the model, open people.json and give the application, whose own end stops both."""
    from bmp.api import BMP
    from bmp.apps.desk import Desk
    from bmp.apps.review import Review
    from bmp.apps.web import make_app
    from bmp.build import build
    from bmp.io.people_file import PeopleFile, recorded_settings

    output: Path = options.output
    results = output / "people.json"
    recorded = recorded_settings(results)
    config, preset = _config(options, recorded, results)
    min_score = _min_score(options, config, recorded, results)
    model: BMP = build(config, options.device)
    root, photos = _photos(options.paths, output, recorded)
    settings = _settings(config, root, min_score) if recorded is None else recorded
    names = [photo.name for photo in photos]
    file = PeopleFile(
        results,
        model.pose.keypoints,
        names,
        resume=True,
        info=settings,
        interval=float("inf"),
        part_set=None if model.parts is None else model.parts.label_set,
    )
    review = Review(file, photos, model.pose.keypoints)
    try:
        desk = Desk(
            model,
            review,
            min_score=min_score,
            requests=options.queue,
            cache_bytes=options.cache * 2**20,
        )
    except BaseException:
        review.close()
        raise
    try:
        yield make_app(desk, review, output / UPLOADS, lambda path: _photo(path, output / root), limits, preset)
    finally:  # once more where the application never started; a second time does nothing
        desk.stop()
        review.close()


def _config(options: argparse.Namespace, recorded: JsonObject | None, results: Path) -> tuple[Config, str]:
    """Return the config, and its name for the page: the one that is named, or the one of people.json."""
    from mmengine.config import Config

    from bmp.config import load_config, parse_overrides

    overrides = parse_overrides(options.set)
    if recorded is None or options.config is not None or not isinstance(recorded.get("pipeline"), dict):
        name = options.config or _DEFAULT
        config = load_config(name, overrides)
        if options.parts and not config.pipeline.get("parts"):
            config.pipeline.parts = dict(type="SkeletonParts")
        if recorded is not None and recorded.get("pipeline") not in (None, config.pipeline.to_dict()):
            raise UserError(
                f"{results}: made with another pipeline than {name}; leave out --config to go on with its own, or "
                "choose another --output"
            )
        return config, Path(name).stem
    if overrides:
        raise UserError(f"--set: {results} has its own settings; leave it out, or choose another --output")
    if options.parts and not recorded["pipeline"].get("parts"):
        raise UserError(f"--parts: {results} was made without; choose another --output")
    return Config(dict(pipeline=recorded["pipeline"])), "that of people.json"


def _min_score(options: argparse.Namespace, config: Config, recorded: JsonObject | None, results: Path) -> float:
    """Return the score below which people are left out: in one file it is the same for all photos."""
    from bmp.config import drawn_score_of

    given: float | None = options.min_score
    if recorded is None:
        return drawn_score_of(config, options.config or _DEFAULT) if given is None else given
    score = float(recorded.get("min_score", 0.0))
    if given not in (None, score):
        raise UserError(f"--min-score: {results} was made with {score:g}; leave it out, or choose another --output")
    return score


def _settings(config: Config, root: str, min_score: float) -> JsonObject:
    from bmp.checkpoints.sources import own_files

    pipeline = config.pipeline.to_dict()
    settings: JsonObject = {"description": "people found by BMP", "version": __version__, "root": root}
    if min_score:
        settings["min_score"] = min_score
    return {**settings, "pipeline": pipeline, "files": own_files(pipeline)}


def _photos(inputs: Sequence[str], output: Path, recorded: JsonObject | None) -> tuple[str, list[Photo]]:
    """Return the folder that names start from, seen from ``output``, and the queue: inputs and what was dropped."""
    from bmp.io.images import common_root, find, is_picture

    dropped = output / UPLOADS
    beside = sorted(path for path in dropped.rglob("*") if is_picture(path)) if dropped.is_dir() else []
    named = [path for path in find(inputs).paths if not _is_output(path, output)] if inputs else []
    if recorded is None:
        start = common_root(inputs) if inputs else Path(os.path.abspath(dropped))  # noqa: PTH100
        root = Path(os.path.relpath(start, output)).as_posix()
    else:
        root = str(recorded.get("root") or UPLOADS)
        if not inputs:
            named = _recorded_photos(output)
    photos = {photo.key: photo for photo in (_photo(path, output / root) for path in [*named, *beside])}
    return root, list(photos.values())


def _recorded_photos(output: Path) -> list[Path]:
    """Return the photos of people.json that lie below its root: names that lead out of there are not followed."""
    from bmp.io.json_fields import read_json
    from bmp.io.people_file import recorded_settings

    results = output / "people.json"
    data = read_json(results) if results.exists() else {}
    root = output / str((recorded_settings(results) or {}).get("root", UPLOADS))
    found = []
    for row in data.get("images", []):
        path = root / row["file_name"]
        inside = path.resolve().is_relative_to(root.resolve())
        if inside and path.is_file():
            found.append(path)
    return found


def _photo(path: Path, root: Path) -> Photo:
    from bmp.apps.review import Photo
    from bmp.io.images import output_names

    (name,) = output_names([path], Path(os.path.abspath(root)))  # noqa: PTH100 - resolve() follows links
    return Photo(path, name)


def _is_output(path: Path, output: Path) -> bool:
    """Tell whether a file lies in the output folder, whose overlays are no photos to review."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(output))


def _listen(options: argparse.Namespace, app: Gate, token: str | None) -> int:
    """Answer requests until a signal says that it is enough."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Stop gracefully, and leave the exit code to the command: uvicorn would end the process by the signal."""
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Say where the page is once it is there."""
            await super().startup(sockets)
            if self.started:
                host, port, *_ = self.servers[0].sockets[0].getsockname()
                say(f"open {page_address(host, port, token)} (Ctrl-C ends it; everything is saved)")

    # Also with --quiet: nobody could find a page whose port or token was chosen here.
    console = open_console(quiet=False)

    def say(line: str) -> None:
        console.print(plain(line))
        sys.stdout.flush()

    settings = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,  # the address of the first page has the token
        server_header=False,
        timeout_graceful_shutdown=_SECONDS_TO_END,
        limit_concurrency=200,
    )
    with _only_what_broke("uvicorn.error", "python_multipart.multipart"):
        try:
            Server(settings).run()
        except SystemExit:  # its way to say that it cannot listen
            raise UserError(
                f"--host {options.host} --port {options.port}: cannot listen there; choose another --port"
            ) from None
    return 0


def page_address(host: str, port: int, token: str | None) -> str:
    """Return the address at which the page opens in a browser; it has the token, if there is one."""
    place = f"[{host}]" if ":" in host else host
    query = f"?token={quote(token, safe='')}" if token else ""
    return f"http://{place}:{port}/{query}"


@contextlib.contextmanager
def _only_what_broke(*loggers: str) -> Iterator[None]:
    """Keep what others send, and what is said here in one line, out of the log; errors with a traceback stay."""

    def broke(record: logging.LogRecord) -> bool:
        return record.exc_info is not None

    for name in loggers:
        logging.getLogger(name).addFilter(broke)
    try:
        yield
    finally:
        for name in loggers:
            logging.getLogger(name).removeFilter(broke)


if __name__ == "__main__":
    sys.exit(main())
