"""The command line: pictures or videos in, overlays and people out, or a data set in and a report out.

Knows files and messages, no network and no metric.

Exit codes: 0 everything done, 1 some inputs failed (they are listed), 2 wrong use or an output that cannot be written,
130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bmp import __version__
from bmp.console import (
    Parser,
    add_volume,
    expect_both,
    instant,
    open_console,
    progress,
    report_failed,
    run_command,
    share,
    whole,
)
from bmp.errors import UserError, choices
from bmp.inference.files import OVERLAYS, TRACES, Job, RunSettings, work_through
from bmp.io.atomic import LOCK, alone_in, writing
from bmp.io.formats import FORMATS

if TYPE_CHECKING:
    from bmp.api import BMP
    from bmp.io.images import Found
    from bmp.io.json_fields import JsonObject


_LOGGER = logging.getLogger("bmp")
_ELSEWHERE = {
    "--conf": "--min-score --config",
    "--threshold": "--min-score",
    "--source": "--input",
    "--model": "--config",
    "--weights": "--set",
    "--project": "--output",
    "--save-dir": "--output",
}
"""What options of other programs are called here."""

_VIDEO_DATASETS = {
    "synthcrowd-video": "SynthCrowdVideo",
    "davis": "DAVIS",
    "youtube-vos": "YouTubeVOS",
    "youtube-vis": "YouTubeVIS",
    "mots": "MOTS",
    "posetrack": "PoseTrack18Videos",
}
"""What data sets of videos are called here, with their classes."""
_FOR_VIDEOS = ("start", "end", "every", "no-overlay", "formats")
_OF_PARTS = ("parts", "parts-png", "parts-cihp")
_FOR_PHOTOS = ("min-agreement", "boxes", "boxes-names", "without-boxes", "only-given", "trace", "labels-in", *_OF_PARTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["doctor"]:
        return run_command(_doctor_parser(), _doctor, arguments[1:], interrupted="nothing was changed")
    if arguments[:1] == ["track"]:
        from bmp.inference.track import main as track

        return track(arguments[1:])
    if arguments[:1] == ["convert"]:
        from bmp.io.convert import main as convert

        return convert(arguments[1:])
    if arguments[:1] == ["serve"]:
        from bmp.apps.serve import main as serve

        return serve(arguments[1:])
    if arguments[:1] == ["label"]:
        from bmp.inference.label import main as label

        return label(arguments[1:])
    if arguments[:1] == ["export"]:
        from bmp.inference.export import main as export

        return export(arguments[1:])
    if arguments[:1] == ["merge"]:
        from bmp.io.merge import main as merge

        return merge(arguments[1:])
    return run_command(_parser(), _work, arguments, interrupted="what is done is written, go on with --resume")


def _parser() -> Parser:
    parser = Parser(
        "bmp",
        _ELSEWHERE,
        usage="bmp PATH ... [-o DIR] [-c CONFIG] [option ...]\n"
        "       bmp -c CONFIG [--dataset FILE --images DIR] [-o DIR] [option ...]\n"
        "       bmp track VIDEO --masks PNG [-o DIR] [-c CONFIG] [option ...]\n"
        "       bmp label PATH ... -o DIR [-c CONFIG] [--engine ray] [option ...]\n"
        "       bmp merge DIR [-o FILE] [--min-agreement A]\n"
        "       bmp convert people.json --to FORMAT [-o PATH]\n"
        "       bmp export -c CONFIG -o DIR\n"
        "       bmp serve [PATH ...] [-o DIR] [option ...]\n"
        "       bmp doctor",
        description="Find every person in photos: boxes, masks and poses, also where people overlap. "
        "In videos, follow them: everybody keeps an identity. "
        "Without photos, measure a config on a data set: its own, or that of --dataset and --images. "
        "bmp track follows any objects through a video. "
        "bmp label labels very many photos, also on a cluster, and bmp merge makes one file of them. "
        "bmp convert writes people.json in the formats of other programs, and reads those. "
        "bmp export writes the networks as ONNX files, with a program that runs them without torch. "
        "bmp serve opens a page on which people are put right by hand. "
        "bmp doctor says what is installed and what to do about what is missing.",
        epilog="exit codes: 0 all done, 1 some inputs failed, 2 wrong use or an output that cannot be written, "
        "130 interrupted (people.json stays valid)",
    )
    parser.add_argument("--version", action="version", version=f"bmp {__version__}")
    parser.add_argument("--list-configs", action="store_true", help="list the configs that come with it, and end")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="photos or videos, folders, globs, URLs, cameras")
    parser.add_argument("-c", "--config", default="lite.py", help="path or name of a config (default: %(default)s)")
    parser.add_argument("-i", "--input", nargs="+", default=[], metavar="PATH", help="the same as PATH")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for everything written (default: bmp-output; without photos output/CONFIG)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    photos = parser.add_argument_group("with photos")
    photos.add_argument("--boxes", type=Path, metavar="FILE", help="COCO JSON or results that give round 1's boxes")
    photos.add_argument(
        "--boxes-names", type=Path, metavar="FILE", help="COCO JSON that says which photo an image_id of --boxes is"
    )
    photos.add_argument(
        "--without-boxes",
        choices=("fail", "detect", "nobody"),
        help="what to do with photos that the file of --boxes says nothing of: count them as failed, detect people in "
        "them, or take it that there is nobody (default: fail)",
    )
    photos.add_argument(
        "--only-given",
        action="store_true",
        help="give the people of --boxes masks and poses and look for nobody else; otherwise later rounds do, and one "
        "box may give three people",
    )
    photos.add_argument("--trace", action="store_true", help="draw what happened, round by round, for each image")
    photos.add_argument(
        "--parts",
        action="store_true",
        help="tell the parts of everybody's body, in people.json and in the pictures: with the config's parser, or "
        "coarsely from masks and skeletons where it has none",
    )
    photos.add_argument(
        "--parts-png", action="store_true", help="the same, and write maps of them, and of people's numbers, as PNG"
    )
    photos.add_argument(
        "--parts-cihp", action="store_true", help="the same, and write the folders that CIHP's evaluation takes"
    )
    photos.add_argument(
        "--min-score",
        type=share,
        metavar="S",
        help="leave out people that score below S, from 0 to 1, of people.json and of the pictures (default: everybody "
        "is in people.json, and who scores below the config's min_score is not drawn)",
    )
    photos.add_argument(
        "--min-agreement",
        type=share,
        metavar="A",
        help="leave out people whose box, mask and pose agree less than A, from 0 to 1 (default: nobody)",
    )
    films = parser.add_argument_group("with videos")
    films.add_argument("--video", action="store_true", help="the inputs are videos; a folder of pictures is one")
    films.add_argument(
        "--start",
        type=instant,
        metavar="T",
        help="begin at frame T, a whole number, or at a time: 1.5 or 90s, in seconds, or 1:30",
    )
    films.add_argument("--end", type=instant, metavar="T", help="end before that frame or time")
    films.add_argument("--every", type=whole(1), metavar="N", help="take each Nth frame")
    films.add_argument("--no-overlay", action="store_true", help="write no film with the people drawn in it")
    films.add_argument(
        "--formats",
        type=_formats,
        metavar="NAMES",
        help=f"what else is written at the end, of {','.join(FORMATS)} (default: all of them; 'none' for none)",
    )
    measured = parser.add_argument_group("without photos")
    measured.add_argument(
        "--dataset",
        metavar="FILE",
        help="COCO JSON of people to measure the config on; or the name of a data set of videos: "
        f"{', '.join(_VIDEO_DATASETS)}",
    )
    measured.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder that the file names in it start from; or that of the videos, as they are published",
    )
    measured.add_argument(
        "--outside", action="store_true", help="also read images whose names in --dataset lead out of --images"
    )
    measured.add_argument(
        "--keypoints", metavar="NAME", help="keypoint set of --dataset, such as aic, where the file does not say it"
    )
    measured.add_argument(
        "--limit", type=whole(1), metavar="N", help="take only the first N images, or videos, of the data set"
    )
    parser.add_argument(
        "--labels-in",
        choices=("upright", "stored"),
        help="which pixels --boxes or --dataset are for: the photo as it is seen, or as it is stored without regard to "
        "its EXIF orientation (default: upright)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto (CUDA, else MPS, else the CPU), cpu, cuda, N or cuda:N, mps (default: %(default)s)",
    )
    parser.add_argument("--batch-size", type=whole(1), default=4, help="images at a time (default: %(default)s)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with an output folder, skipping what is done")
    again.add_argument("--overwrite", action="store_true", help="start anew in an output folder that has results")
    add_volume(parser)
    return parser


def _work(options: argparse.Namespace) -> int:
    if options.list_configs:
        return _list_configs()
    return _run(options) if options.paths or options.input else _evaluate(options)


def _list_configs() -> int:
    from bmp.doctor import examine_presets

    found = examine_presets()
    width = max((len(preset.name) for preset in found), default=0)
    for preset in found:
        print(f"{preset.name:{width}}  {preset.purpose}\n{'':{width}}  {preset.state}")
    return 0


def _doctor_parser() -> Parser:
    return Parser(
        "bmp doctor",
        description="Say what is installed, which presets can run, and what to do about what is missing.",
        epilog="exit codes: 0 the lite preset can run, 1 it cannot",
    )


def _doctor(options: argparse.Namespace) -> int:
    from bmp.build import resolve_device
    from bmp.doctor import DEFAULT, can_run, examine

    lines, advice = examine(resolve_device("auto"))
    for line in lines:
        print(line)
    for line in advice:
        print(f"- {line}")
    runs = can_run()
    print(f"{DEFAULT} can run: bmp photo.jpg" if runs else f"{DEFAULT} cannot run yet")
    return 0 if runs else 1


def _refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Complain about options that would have no effect."""
    for name in names:
        if getattr(options, name.replace("-", "_")) not in (None, False):
            raise UserError(f"--{name} {reason}")


def _evaluate(options: argparse.Namespace) -> int:
    """Measure a config on a data set; of several processes only the first one speaks."""
    from bmp.build import has_videos
    from bmp.config import load_config, parse_overrides
    from bmp.distributed import Processes
    from bmp.evaluation.benchmark import evaluate
    from bmp.evaluation.video_benchmark import evaluate_videos

    names = ("boxes", "boxes-names", "without-boxes", "only-given", "trace", "min-score", "min-agreement", "video")
    _refuse(options, (*names, *_OF_PARTS, *_FOR_VIDEOS), "goes with photos; name some, or leave it out to evaluate")
    videos = _video_dataset(options)
    both = videos is None and expect_both(
        options, "--dataset FILE", "--images DIR", "annotations and the folder of their images"
    )
    if not both:
        _refuse(
            options,
            ("outside", "labels-in", "keypoints"),
            "is about the files of --dataset and --images; give them, too",
        )
    overrides = parse_overrides(options.set)
    if both and (key := next((key for key in overrides if key.split(".")[0] == "dataset"), None)):
        raise UserError(f"--set {key} has no effect beside --dataset; leave out one of them")
    own = {} if videos is None else {key: value for key, value in overrides.items() if key.startswith("dataset.")}
    config = load_config(options.config, {key: value for key, value in overrides.items() if key not in own})
    if videos is not None:
        config.dataset = {**videos, **{key.partition(".")[2]: value for key, value in own.items()}}
    if both:
        config.dataset = dict(
            type="PeopleDataset",
            annotations=str(options.dataset),
            images=str(options.images),
            labels_in=options.labels_in or "upright",
            outside=options.outside,
            keypoints=options.keypoints,
        )
    elif not config.get("dataset"):
        raise UserError(
            f"nothing to do: name photos, as in bmp photo.jpg (or with --input), or give --dataset FILE --images DIR, "
            f"or a config with a data set, such as ochuman.py ({options.config} has none)"
        )
    folder = options.output or Path("output", Path(options.config).stem)
    with Processes.joined() as processes, ExitStack() as alone:
        of_videos = has_videos(config)
        measure = evaluate_videos if of_videos else partial(evaluate, batch_size=options.batch_size)
        outcome = measure(
            config,
            folder,
            processes,
            partial(progress, options.quiet or processes.rank > 0, unit="videos" if of_videos else "images"),
            device=options.device,
            limit=options.limit,
            resume=options.resume,
            overwrite=options.overwrite,
            debug=options.debug,
            claim=lambda: alone.enter_context(alone_in(folder)),
        )
    if outcome is None:
        return 0
    console = open_console(options.quiet)
    for table in outcome.tables:
        console.print(table.rich())
    for sentence in outcome.sentences:
        console.print(sentence)
    console.print(f"Report: {folder / 'report.md'}")
    return report_failed("bmp", outcome.failed)


def _video_dataset(options: argparse.Namespace) -> dict[str, str] | None:
    """Return the data set of videos that ``--dataset`` names; None where it names none."""
    name = options.dataset
    if name is None or Path(name).is_file():
        return None
    if name not in _VIDEO_DATASETS:
        if options.images is None and Path(name).name == name and not Path(name).suffix:
            known = choices(name, _VIDEO_DATASETS)
            raise UserError(f"--dataset {name}: no such file, nor a data set of videos; {known}")
        return None
    found = {"type": _VIDEO_DATASETS[name]}
    if name == "synthcrowd-video":
        found["split"] = "video-test"
        if options.images is not None:
            raise UserError("--images has no effect beside --dataset synthcrowd-video, which is drawn; leave it out")
    elif options.images is not None:
        found["images" if name == "youtube-vis" else "root"] = str(options.images)
    return found


def _run(options: argparse.Namespace) -> int:
    """Check everything that can be wrong before the networks are loaded, then work through the inputs."""
    with _no_collection():
        from bmp.build import build
    from bmp.checkpoints.sources import own_files
    from bmp.config import drawn_score_of, load_config, parse_overrides
    from bmp.io.images import common_root, output_names
    from bmp.io.people_file import PeopleFile, recorded_settings
    from bmp.io.video_inputs import find_videos

    _refuse(
        options,
        ("dataset", "images", "limit", "outside", "keypoints"),
        "is for an evaluation; leave it out, or name no photos",
    )
    if options.boxes is None:
        _refuse(
            options,
            ("only-given", "without-boxes", "boxes-names", "labels-in"),
            "is about the boxes of --boxes FILE; give them, too",
        )
    output = options.output or Path("bmp-output")
    results = output / "people.json"
    inputs = [*options.paths, *options.input]
    if videos := find_videos(inputs, options.video):
        return _follow(options, videos, output)
    _refuse(options, _FOR_VIDEOS, "is for videos; leave it out, or take pictures as one video with --video")
    found = _found(inputs, output)
    config = load_config(options.config, parse_overrides(options.set))
    drawn_score = drawn_score_of(config, options.config)
    if any((options.parts, options.parts_png, options.parts_cihp)) and not config.pipeline.get("parts"):
        config.pipeline.parts = dict(type="SkeletonParts")
    _make_writable(output)
    with alone_in(output):
        if results.exists() and not (options.resume or options.overwrite):
            raise UserError(
                f"{output} has the results of an earlier run; choose another folder with -o DIR, add to them with "
                "--resume, or replace them with --overwrite"
            )
        earlier = (recorded_settings(results) if options.resume else None) or {}
        root = str(earlier.get("root") or _relative(common_root(inputs), output))
        names = output_names(found.sources, Path(os.path.abspath(output / root)))  # noqa: PTH100 - resolve() follows links
        settings: JsonObject = {
            "description": "people found by BMP",
            "version": __version__,
            "root": root,
            "pipeline": config.pipeline.to_dict(),
            "files": own_files(config.pipeline.to_dict()),
        }
        if options.min_score is not None:
            settings["min_score"] = options.min_score
        if options.min_agreement is not None:
            settings["min_agreement"] = options.min_agreement
        jobs = [Job(source, name) for source, name in zip(found.sources, names, strict=True)]
        notices: list[str] = []
        if options.boxes is not None:
            jobs, notices = _with_boxes(jobs, options)
            settings["boxes"] = _box_settings(options)
        for line in [*notices, *found.summary()]:
            _LOGGER.warning(line)
        model = build(config, options.device)
        if options.parts_cihp:
            _expect_cihp(names, model)
        skipped = [(str(entry.path), entry.reason) for entry in found.left_out]
        with PeopleFile(
            results,
            model.pose.keypoints,
            names,
            resume=options.resume,
            skipped=skipped,
            notices=notices,
            info=settings,
            part_set=None if model.parts is None else model.parts.label_set,
        ) as people_file:
            failed = work_through(
                model,
                jobs,
                people_file,
                RunSettings(
                    output,
                    batch_size=options.batch_size,
                    trace=options.trace,
                    min_score=options.min_score or 0.0,
                    min_agreement=options.min_agreement or 0.0,
                    drawn_score=drawn_score if options.min_score is None else options.min_score,
                    only_given=options.only_given,
                    part_maps=options.parts_png,
                    cihp=options.parts_cihp,
                    debug=options.debug,
                    quiet=options.quiet,
                ),
            )
    return report_failed("bmp", failed)


def _expect_cihp(names: Sequence[str], model: BMP) -> None:
    """Complain where CIHP's folders could not hold the images of a run."""
    from bmp.io.part_maps import cihp_id
    from bmp.label_sets.part_sets import CIHP

    if model.parts is None or model.parts.label_set != CIHP:
        got = "none" if model.parts is None else str(model.parts.label_set)
        raise UserError(
            f"--parts-cihp: expected a parser with {CIHP}, got {got}; take a config with one: nano_parts.py"
        )
    known: dict[str, str] = {}
    for name in names:
        if (first := known.setdefault(cihp_id(name), name)) != name:
            raise UserError(f"--parts-cihp: {first} and {name} have the same name there; rename one, or do them apart")


def _formats(text: str) -> tuple[str, ...]:
    names = () if text == "none" else tuple(dict.fromkeys(text.split(",")))
    wrong = [name for name in names if name not in FORMATS]
    if wrong:
        raise argparse.ArgumentTypeError(f"there is no format {wrong[0]!r}; {choices(wrong[0], FORMATS)}")
    return names


def _follow(options: argparse.Namespace, videos: Sequence[str], output: Path) -> int:
    """Follow people through videos: one writes into the output folder itself, several into a folder each."""
    from bmp.build import build
    from bmp.checkpoints.sources import own_files
    from bmp.config import drawn_score_of, load_config, parse_overrides
    from bmp.inference.video import OWN_FILES, VideoSettings, follow_video
    from bmp.io.video import VideoError
    from bmp.io.video_inputs import folder_names

    _refuse(options, _FOR_PHOTOS, "is for photos; leave it out for videos")
    config = load_config(options.config, parse_overrides(options.set))
    drawn_score = drawn_score_of(config, options.config)
    folders = [output] if len(videos) == 1 else [output / name for name in folder_names(videos)]
    _make_writable(output)
    failed: list[str] = []
    with alone_in(output):
        for folder in folders:
            if any((folder / name).exists() for name in OWN_FILES) and not (options.resume or options.overwrite):
                raise UserError(
                    f"{folder} has the results of an earlier run; choose another folder with -o DIR, go on with "
                    "--resume, or replace them with --overwrite"
                )
        model = build(config, options.device)
        model.video_loop  # noqa: B018 - made here, before anything is written
        sections: JsonObject = {name: config[name].to_dict() for name in ("pipeline", "video") if name in config}
        for video, folder in zip(videos, folders, strict=True):
            settings = VideoSettings(
                folder,
                start=options.start or 0,
                end=options.end,
                every=options.every or 1,
                overlay=not options.no_overlay,
                resume=options.resume,
                min_score=options.min_score or 0.0,
                drawn_score=drawn_score if options.min_score is None else options.min_score,
                info={**sections, "files": own_files(sections)},
                debug=options.debug,
                quiet=options.quiet,
                formats=tuple(FORMATS) if options.formats is None else options.formats,
            )
            try:
                failed += follow_video(model, video, settings)
            except VideoError as error:  # of this one: the others are done all the same
                failed.append(str(error))
    return report_failed("bmp", failed)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from looking through what imports make, which all stays: torch loads 10 % faster."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _found(inputs: Sequence[str], output: Path) -> Found:
    """Find the pictures that ``inputs`` name, but for those that this program has written to its output folder."""
    from bmp.io.images import Found, find

    found = find(inputs)
    sources = [source for source in found.sources if not _is_own(source, output)]
    if not sources:
        raise UserError(f"the only pictures found are this program's own, in {output}; name other inputs")
    return Found(sources, [entry for entry in found.left_out if not _is_own(entry.path, output)])


def _box_settings(options: argparse.Namespace) -> JsonObject:
    """Return everything about ``--boxes`` that a resumed run has to have in common with the first."""
    return {
        "sha256": _content(options.boxes),
        "without_boxes": options.without_boxes or "fail",
        "only_given": options.only_given,
        "names": _content(options.boxes_names),
        "labels_in": options.labels_in or "upright",
    }


def _is_own(path: Path | str, output: Path) -> bool:
    """Tell whether a run with this output folder writes such a file."""
    # Not resolve(), which raises for links to themselves.
    inside = Path(os.path.relpath(os.path.realpath(path), os.path.realpath(output))).parts
    return bool(inside) and inside[0] in (OVERLAYS, TRACES, LOCK, "people.json", "people.json.partial")


def _with_boxes(jobs: Sequence[Job], options: argparse.Namespace) -> tuple[list[Job], list[str]]:
    """Give jobs the boxes of ``--boxes``, and say what was left out of these, a line each.

    ``--without-boxes`` says what becomes of jobs that the file says nothing of.
    """
    from bmp.io.boxes_file import load_boxes
    from bmp.structures import Detections

    given = load_boxes(
        options.boxes,
        [job.name for job in jobs],
        [job.source for job in jobs],
        names=options.boxes_names,
        labels_in=options.labels_in or "upright",
    )
    silent = options.without_boxes or "fail"
    refused = given.failures(detect_silent=silent != "fail")
    boxes = dict(given.boxes)
    if silent == "nobody":
        boxes |= dict.fromkeys(given.silent, Detections.empty())
    with_boxes = [Job(job.source, job.name, boxes.get(job.name), refused.get(job.name)) for job in jobs]
    return with_boxes, given.notices


def _content(path: Path | None) -> str | None:
    """Return a checksum of a file, or of all files in a folder with their names; None for None."""
    from bmp.io.images import checksum

    if path is None:
        return None
    path = path.expanduser()
    if not path.is_dir():
        return checksum(path)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".json")
    return hashlib.sha256(json.dumps([(file.name, checksum(file)) for file in files]).encode()).hexdigest()


def _relative(folder: Path, start: Path) -> str:
    """Return the path from ``start`` to ``folder``: results and photos may move together to another folder."""
    try:
        return Path(os.path.relpath(folder, start)).as_posix()
    except ValueError:  # on another drive
        return folder.as_posix()


def _make_writable(folder: Path) -> None:
    with writing(folder, "choose another --output"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


if __name__ == "__main__":
    sys.exit(main())
