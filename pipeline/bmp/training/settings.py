"""Reads a training config, and describes the data and the start of a training. Knows no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from bmp import __version__
from bmp.checkpoints.sources import resolve
from bmp.config import ConfigSection, load_config
from bmp.errors import UserError
from bmp.io.checksums import sha256_of


def read_config(name: str | Path, overrides: ConfigSection | None = None, work_dir: Path | None = None) -> Config:
    """Read the config of a training.

    Args:
        name: see ``bmp.config.load_config``.
        overrides: values by dotted key. Another ``data_root`` moves every path that the config has below its own.
            The config's ``made_by`` says which command makes a file: a list of dicts with ``file`` and ``command``, in
            which {data_root} stands for that folder.
        work_dir: folder for what the training writes; None is ``output/train/`` and the config's name.

    Raises:
        UserError: for a config that does not exist or is not for training, and for missing data.
    """
    overrides = dict(overrides or {})
    config = load_config(name, overrides)
    if missing := [key for key in ("model", "train_dataloader", "train_cfg", "optim_wrapper") if key not in config]:
        raise UserError(f"config {name}: expected a training, found no {', '.join(missing)}; see configs/train")
    if "data_root" in overrides:
        _move(config, str(load_config(name).get("data_root")), str(config.data_root))
    config.work_dir = str(work_dir or Path("output/train") / Path(name).stem)
    missing_files = [each for each in _ground_truth_files(config) if not each.file.is_file()]
    if missing_files:
        raise UserError(_remedy(missing_files, config))
    return config


def provenance(config: Config) -> dict[str, str]:
    """Return what weights were trained on, in words, so that they can be told apart and made again.

    Data sets are named by their files of ground truth, with a hash of each; those without such a file by their
    arguments in the config, less the paths. A checkpoint that the model starts from is named, with its hash if it is a
    file of the user's.
    """
    root = Path(config.get("data_root") or "")
    data = [
        f"{file.relative_to(root) if file.is_relative_to(root) else file.name} sha256 {sha256_of(file)}"
        for _, file in _ground_truth_files(config)
    ]
    data += [_words(each) for loader in _loaders(config) for each in _datasets(loader) if not _file_keys(each)]
    description = {
        "bmp": __version__,
        "config": Path(config.filename).name,
        "data": ", ".join(dict.fromkeys(data)),
        "seed": str(config.get("randomness", {}).get("seed", "")),
    }
    for word, key in (("iterations", "max_iters"), ("epochs", "max_epochs")):
        if key in config.train_cfg:
            description[word] = str(config.train_cfg[key])
    backbone = config.model.get("backbone") or {}
    starts = (
        config.model.get("checkpoint"),
        config.get("load_from"),
        (backbone.get("init_cfg") or {}).get("checkpoint"),
    )
    if start := next(filter(None, starts), None):
        own = Path(start).expanduser().is_file()
        description["start"] = f"{Path(start).name} sha256 {sha256_of(resolve(start))}" if own else str(start)
    return description


def _words(dataset: ConfigSection) -> str:
    """Return a data set's type and plain arguments; paths are left out, as they mean nothing on another machine."""
    plain = (
        f"{key}={value}"
        for key, value in dataset.items()
        if key not in ("type", "root") and isinstance(value, str | int | float) and "/" not in str(value)
    )
    return " ".join((dataset["type"], *plain))


def _move(node: Any, old: str, new: str) -> None:
    """Replace ``old`` at the beginning of every path in a config."""
    for key, value in list(node.items() if isinstance(node, Mapping | Config) else enumerate(node)):
        if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
            node[key] = new + value[len(old) :]
        elif isinstance(value, Mapping | list):
            _move(value, old, new)


class _GroundTruthFile(NamedTuple):
    """A file of annotations or keypoints that a training reads."""

    key: str
    """Where the config names it, such as "train_dataloader.dataset.ann_file"."""
    file: Path


def _loaders(config: Config) -> tuple[ConfigSection, ConfigSection]:
    return config.train_dataloader, config.get("val_dataloader") or {}


def _ground_truth_files(config: Config) -> list[_GroundTruthFile]:
    """Return the files of annotations and keypoints that the training and its validation read."""

    def files(node: object, place: str) -> Iterator[_GroundTruthFile]:
        if isinstance(node, Mapping):
            for key, value in node.items():
                yield from files(value, f"{place}.{key}")
            for key in _file_keys(node):
                folder = (node.get("data_root") or "") if key == "ann_file" else ""
                yield _GroundTruthFile(f"{place}.{key}", Path(folder) / node[key])
        elif isinstance(node, list):
            for number, value in enumerate(node):
                yield from files(value, f"{place}[{number}]")

    training, validation = _loaders(config)
    return [*files(training, "train_dataloader"), *files(validation, "val_dataloader")]


def _file_keys(node: ConfigSection) -> list[str]:
    return [key for key in ("ann_file", "annotations", "keypoints") if isinstance(node.get(key), str)]


def _datasets(node: Any) -> Iterator[ConfigSection]:
    """Return the configs of the data sets in one of a loader, without those that join or change others."""
    if isinstance(node, list):
        inner = node
    elif "type" in node or "dataset" in node:
        inner = [node[key] for key in ("dataset", "datasets", "sources") if key in node]
        if not inner:
            yield node
        elif "part" in node:  # of a data set that is held out, or the rest of it
            part = {key: node[key] for key in ("part", "share", "seed") if key in node}
            inner = [{**each, **part} for each in inner]
    else:
        inner = list(node.values())
    for part in inner:
        yield from _datasets(part)


def _remedy(missing: Sequence[_GroundTruthFile], config: Config) -> str:
    """Name the missing file and the remedy: the commands of the config that make it and others, or else advice.

    Annotations come first: keypoints are made from them.
    """
    keypoints = all(each.key.endswith(".keypoints") for each in missing)
    missing = [each for each in missing if each.key.endswith(".keypoints") == keypoints]
    first = missing[0]
    known = {
        Path(entry["file"]): entry["command"].format(data_root=config.data_root) for entry in config.get("made_by", ())
    }
    # Where the config names another file than the one that is made, so may the others be somebody else's.
    made = [known[each.file] for each in missing if each.file in known] if first.file in known else []
    commands = list(dict.fromkeys(made))
    if not commands and keypoints:
        commands = [f"python -m bmp.inference.keypoints --output {first.file}"]
    make = f"make them with {' and '.join(f'`{command}`' for command in commands)}" if commands else "put them there"
    if keypoints:
        what, otherwise = "the keypoints that an estimator finds", f"name another file in {first.key}"
    else:
        what = "the training's annotations"
        inside = config.get("data_root") and first.file.is_relative_to(config.data_root)
        folder = "the folder of others" if commands else "the folder they are in"
        otherwise = f"give {folder} with --set data_root=DIR" if inside else f"name another file in {first.key}"
    return f"{first.file}: expected {what}, found none; {make}, or {otherwise}"
