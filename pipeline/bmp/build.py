"""From a config to a pipeline or a data set; the only module that knows configs. It knows no stage by name.

A config is an mmengine ``Config`` file in plain Python whose ``pipeline`` is a dict of constructor arguments of
``bmp.BMP``, whose ``video``, if any, has those of ``bmp.video_loop.VideoLoop``, whose ``sam_pt``, if any, has those of
``bmp.sam_pt.SAMPT``, and whose ``dataset``, if any, is what it is evaluated on. An argument that its annotation calls a
detector, a prompter, ... is a dict with a ``type``: a name from the registry of that role, or the full dotted path of a
class anywhere. ``pipeline.shared`` names parts that several stages use: each is built once, and an argument takes one
by its name. Everything is checked against signatures and annotations before anything is built. A part that takes
``keypoints``, a ``KeypointSet``, and is not given them in the config gets those of the pipeline's pose estimator; a
config names such a set as ``bmp.label_sets`` does.
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

import torch
from mmengine.registry import Registry

from bmp.api import BMP
from bmp.checkpoints.sources import named_weights
from bmp.config import ConfigSection, load_config
from bmp.datasets.people import PeopleDataset
from bmp.datasets.videos import VideoDataset
from bmp.errors import UserError, choices
from bmp.hints import (
    Hint,
    MisfitError,
    Signature,
    alternatives,
    article,
    converted,
    described,
    implements,
    signature_of,
)
from bmp.label_sets import KeypointSet, keypoint_set
from bmp.registry import (
    BOX_PROMPTS,
    DATASETS,
    DETECTORS,
    ENCODERS,
    IDENTITIES,
    NEGATIVES,
    OVERLAP_RULES,
    PAINT_RULES,
    PARSERS,
    POINT_SAMPLERS,
    POSES,
    PROMPTERS,
    SEGMENTERS,
    SUPPRESSORS,
    TRACK_PROMPTERS,
    TRACKERS,
    VIDEO_DATASETS,
)
from bmp.sam_pt import SAMPT
from bmp.segmenters.point_sampling import PointSampler
from bmp.segmenters.prompting import BoxPrompt, NegativePoints
from bmp.stages import (
    Detector,
    ImageEncoder,
    OverlapRule,
    PaintRule,
    PartParser,
    PointTracker,
    PoseEstimator,
    Prompter,
    Segmenter,
    Suppressor,
    TrackPrompter,
)
from bmp.tracking.identities import Identities
from bmp.video_loop import VideoLoop

_LOGGER = logging.getLogger(__name__)

_ROLES: dict[Hint, Registry] = {
    Detector: DETECTORS,
    PoseEstimator: POSES,
    Segmenter: SEGMENTERS,
    Suppressor: SUPPRESSORS,
    OverlapRule: OVERLAP_RULES,
    PaintRule: PAINT_RULES,
    PartParser: PARSERS,
    ImageEncoder: ENCODERS,
    Prompter: PROMPTERS,
    NegativePoints: NEGATIVES,
    BoxPrompt: BOX_PROMPTS,
    PointSampler: POINT_SAMPLERS,
    PointTracker: TRACKERS,
    TrackPrompter: TRACK_PROMPTERS,
    Identities: IDENTITIES,
    PeopleDataset: DATASETS,
    VideoDataset: VIDEO_DATASETS,
}
"""What an argument's annotation says that it is, and where the names of such parts are."""

Factory = Callable[..., Any]
"""A class or function that makes a part."""

_Maker = Callable[[], Any]
"""Builds something that has been checked."""


def load(config: str | Path = "lite.py", *, device: str = "auto", overrides: ConfigSection | None = None) -> BMP:
    """Build the model that a config describes.

    Args:
        config: path of a config file, or the name of one that comes with the package.
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda", "cuda:N", "N" or "mps"; stages whose config names
            a device keep theirs.
        overrides: config values to replace, by dotted key: ``{"pipeline.rounds": 1}``.

    Raises:
        UserError: for any mistake in the config, with what exists instead.
        ImportError: where a stage needs an extra that is not installed, with the command that installs it.
    """
    return build(load_config(config, overrides or {}), device)


def build(config: ConfigSection, device: str = "auto") -> BMP:
    """Build the pipeline of a loaded config; arguments and errors as for ``load``."""
    if not isinstance(config.get("pipeline"), Mapping):
        raise UserError("this config has no pipeline = dict(...); start it with _base_ = ['_base_/bmp.py']")
    arguments = dict(config["pipeline"])
    assembly = _Assembly(arguments.pop("shared", {}), resolve_device(device))
    if assembly.device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")  # TF32 where float32 is left, as convolutions have it anyway
    make = assembly.call(BMP, arguments, "pipeline")
    make_video_loop = assembly.call(VideoLoop, _video_section(config), "video")
    assembly.expect_all_used()
    _LOGGER.info("device %s, for stages whose config names no other", assembly.device)
    model: BMP = make()
    model.make_video_loop = make_video_loop
    # A name stands for a shared part: one level of them is looked up.
    shared = config["pipeline"].get("shared", {})
    model.weights = {role: tuple(dict.fromkeys(weights_of(stage, shared))) for role, stage in arguments.items()}
    return model


def build_sam_pt(config: ConfigSection, device: str = "auto") -> SAMPT:
    """Build SAM-PT from a loaded config: the segmenter of its pipeline, and the arguments of its ``sam_pt``, if any.

    Without a tracker there, it is ``LucasKanade``. Errors as for ``load``; the pipeline's other stages are not built.
    """
    pipeline, section = config.get("pipeline"), config.get("sam_pt", {})
    if not isinstance(pipeline, Mapping) or "segmenter" not in pipeline:
        raise UserError("this config has no pipeline.segmenter; take one that has, such as sam21.py")
    if not isinstance(section, Mapping) or "segmenter" in section:
        raise UserError(f"sam_pt: expected a dict of settings of SAM-PT but for the segmenter, got {section!r}")
    assembly = _Assembly(pipeline.get("shared", {}), resolve_device(device))
    arguments = {"tracker": dict(type="LucasKanade"), **section, "segmenter": pipeline["segmenter"]}
    return assembly.call(SAMPT, arguments, "sam_pt")()  # type: ignore[no-any-return]


def _video_section(config: ConfigSection) -> dict[str, Any]:
    """Return the arguments of ``VideoLoop`` in a config; what is not there is as in the base of every pipeline."""
    section = config.get("video", {})
    if not isinstance(section, Mapping):
        raise UserError(f"video: expected a dict of settings of the loop over videos, got {section!r}")
    return {"tracker": dict(type="LucasKanade"), "prompts": dict(type="TrackedKeypoints"), **section}


def weights_of(config: object, shared: ConfigSection | None = None) -> Iterator[str]:
    """Yield the files of weights that a part of a config is built from, its own and those of the parts within.

    shared: the dicts of the shared parts by name, for a part that is such a name.
    """
    if isinstance(config, str) and shared and config in shared:
        yield from weights_of(shared[config])
    elif isinstance(config, Mapping):
        kind = config.get("type")
        # Only names of ours tell the defaults: a dict with a type may as well be settings of some other library.
        ours = isinstance(kind, str) and "." not in kind and _is_known(kind)
        yield from named_weights(_class_of(kind, (), "weights") if ours else None, config)
        for value in config.values():
            yield from weights_of(value, shared)


def build_dataset(config: ConfigSection) -> PeopleDataset:
    """Build the data set of a loaded config; ``UserError`` for any mistake in it or in the files it names."""
    if not isinstance(config.get("dataset"), Mapping):
        raise UserError("this config has no dataset = dict(type=...); take one that has, such as ochuman.py")
    return build_part(config["dataset"], DATASETS, where="dataset")  # type: ignore[no-any-return]


def build_video_dataset(config: ConfigSection) -> VideoDataset:
    """Build the data set of videos of a loaded config; errors as for ``build_dataset``."""
    return build_part(config["dataset"], VIDEO_DATASETS, where="dataset")  # type: ignore[no-any-return]


def has_videos(config: ConfigSection) -> bool:
    """Tell whether the data set of a loaded config, if it has one, is one of videos."""
    section = config.get("dataset")
    if not isinstance(section, Mapping) or "type" not in section:
        return False
    kind = _class_of(section["type"], [DATASETS, VIDEO_DATASETS], "dataset")
    return isinstance(kind, type) and issubclass(kind, VideoDataset)


def resolve_device(name: str) -> str:
    """Turn "auto" into the best device there is and check any other name against this machine; "0" means "cuda:0"."""
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if name.isdecimal():
        name = f"cuda:{name}"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device {name!r} is unknown; use auto, cpu, cuda, cuda:N, N or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; try --device auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps': this machine has none; try --device auto")
    return name


def build_part(
    config: ConfigSection,
    registry: Registry,
    device: str = "cpu",
    where: str = "",
    shared: ConfigSection | None = None,
) -> Any:
    """Build one stage or policy from its dict.

    Args:
        config: the ``type`` and the arguments.
        registry: of ``bmp.registry``, the role of the part.
        device: for stages whose config names none.
        where: the name of the part in messages.
        shared: ``pipeline.shared`` of the config, for parts that take one by name.

    Raises:
        UserError, ImportError: as for ``load``.
    """
    role = next(role for role, its_registry in _ROLES.items() if its_registry is registry)
    return _Assembly(shared or {}, device).part(config, role, where or str(registry.name))()


class _Assembly:
    """Checks parts and their arguments; the makers that it returns build them. Shared parts are made once.

    shared: the dicts of the shared parts by name. device: for parts whose config names none.
    """

    def __init__(self, shared: object, device: str) -> None:
        if not isinstance(shared, Mapping):
            raise UserError(f"pipeline.shared: expected a dict of parts by name, got {shared!r}")
        self._shared = shared
        self.device = device
        self._pose: _Maker | None = None
        self._known: dict[str, tuple[Factory, _Maker]] = {}
        self._pending: list[str] = []

    def call(self, factory: Factory, arguments: ConfigSection, where: str) -> _Maker:
        """Check all that ``factory`` is to be called with."""
        name, signature = getattr(factory, "__name__", str(factory)), signature_of(factory)
        for key in arguments:
            if key not in signature.arguments and signature.others is None:
                raise UserError(f"{where}: {name} has no argument {key!r}; {choices(key, signature.arguments)}")
        told = "keypoints" not in arguments and _takes_keypoints(factory, signature)
        missing = [
            key
            for key, argument in signature.arguments.items()
            if argument.required and key not in arguments and key != "device" and not (told and key == "keypoints")
        ]
        if missing:
            raise UserError(f"{where}: {name} needs {', '.join(missing)}; give a value in the config")
        makers = {
            key: self._argument(
                value,
                signature.arguments[key].hint if key in signature.arguments else signature.others,
                f"{where}.{key}",
            )
            for key, value in arguments.items()
        }
        if "device" in signature.arguments and "device" not in arguments:
            makers["device"] = lambda: self.device
        return lambda: factory(**{key: make() for key, make in makers.items()}, **(self._meaning() if told else {}))

    def part(self, config: object, hint: Hint, where: str) -> _Maker:
        """Check a dict with a ``type``, which is to become what ``hint`` says."""
        factory, make = self._part(config, _registries_of(hint), where)
        return self._noted(_in_role(factory, make, hint, where), hint)

    def _meaning(self) -> dict[str, KeypointSet]:
        """Return what the keypoints of the pipeline's pose estimator mean, for the parts that work with its poses."""
        return {} if self._pose is None else {"keypoints": self._pose().keypoints}

    def expect_all_used(self) -> None:
        """Complain about a shared part that no argument names."""
        for name in self._shared:
            if name not in self._known:
                raise UserError(
                    f"pipeline.shared.{name}: no stage uses it; name it where an argument takes such a part, or leave "
                    "it out. An argument says by its annotation what it takes"
                )

    def _part(self, config: object, registries: Sequence[Registry], where: str) -> tuple[Factory, _Maker]:
        """Return the class or function that makes a part, and the maker that calls it."""
        if not isinstance(config, Mapping) or "type" not in config:
            known = choices("", [name for registry in registries or _ROLES.values() for name in _registered(registry)])
            raise UserError(f"{where}: expected a type; {known}")
        arguments = dict(config)
        factory = _class_of(arguments.pop("type"), registries, where)
        return factory, self.call(factory, arguments, where)

    def _argument(self, value: object, hint: Hint, where: str) -> _Maker:
        registries = _registries_of(hint)
        if isinstance(value, str) and KeypointSet in alternatives(hint) and str not in alternatives(hint):
            try:
                value = keypoint_set(value)
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
        try:
            plain, misfit = converted(value, hint), None
        except MisfitError as error:
            plain, misfit = None, error
        if isinstance(value, Mapping) and (registries or "type" in value):
            if registries or misfit:
                return self.part(value, hint, where)
            if hint is Any and _is_known(value["type"]):
                return self.part(value, hint, where)
        if isinstance(value, str) and (misfit or registries):
            if value in self._shared:
                return self._named(value, hint, where)
            if misfit and registries:
                known = f"{choices(value, self._shared)} in pipeline.shared; " if self._shared else ""
                raise UserError(
                    f"{where}: expected a dict with a type{' or the name of a shared part' if known else ''}, got "
                    f"{value!r}; {known}with --set, write a part as \"{{'type': 'NAME'}}\""
                )
        for option in alternatives(hint):
            inner = get_args(option)
            if inner and _registries_of(inner[-1]) and isinstance(value, Mapping):
                makers = {key: self._argument(each, inner[-1], f"{where}.{key}") for key, each in value.items()}
                return lambda: {key: make() for key, make in makers.items()}
            if inner and _registries_of(inner[0]) and isinstance(value, list | tuple):
                rows = [self._argument(each, inner[0], f"{where}[{i}]") for i, each in enumerate(value)]
                return lambda: type(value)(make() for make in rows)
        if misfit:
            raise UserError(f"{where}{misfit.place}: {misfit}; correct it in the config or in --set")
        return lambda: plain

    def _named(self, name: str, hint: Hint, where: str) -> _Maker:
        """Return the maker of a shared part, which makes it once."""
        if name in self._pending:
            circle = " -> ".join([*self._pending[self._pending.index(name) :], name])
            raise UserError(f"pipeline.shared: {circle} go round in a circle; a part cannot be a part of itself")
        if name not in self._known:
            self._pending.append(name)
            factory, make = self._part(self._shared[name], [], f"pipeline.shared.{name}")
            self._pending.pop()
            self._known[name] = factory, functools.cache(make)
        return self._noted(_in_role(*self._known[name], hint, f"{where}: shared part {name!r}"), hint)

    def _noted(self, make: _Maker, hint: Hint) -> _Maker:
        """Remember the pose estimator, which is then made once: others ask it for the meaning of its keypoints."""
        if PoseEstimator in alternatives(hint):
            make = self._pose = functools.cache(make)
        return make


def _registries_of(hint: Hint) -> list[Registry]:
    """Return the registries of the roles that an annotation names: protocols, or classes that implement one.

    Classes of Python's own are no parts, whatever their methods are called: a ``Path`` can ``resolve``, too.
    """
    return [
        registry
        for option in alternatives(hint)
        for role, registry in _ROLES.items()
        if option is role or (isinstance(option, type) and not _comes_with_python(option) and implements(option, role))
    ]


def _comes_with_python(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in sys.stdlib_module_names


def _in_role(factory: Factory, make: _Maker, hint: Hint, where: str) -> _Maker:
    """Return a maker that gives what ``hint`` says; of what a function makes nothing is known before it is called."""
    if isinstance(factory, type):
        _expect_role(factory, hint, where)
        return make

    def make_and_check() -> Any:
        try:
            return converted(made := make(), hint)
        except MisfitError:
            raise UserError(f"{where}: expected {described(hint)}, got {type(made).__name__}") from None

    return make_and_check


def _expect_role(factory: type, hint: Hint, where: str) -> None:
    """Complain about a class whose instances are not what ``hint`` says."""
    kinds = [get_origin(option) or option for option in alternatives(hint)]
    wanted = [kind for kind in kinds if isinstance(kind, type) and kind is not Any]
    if not wanted or any(implements(factory, option) for option in wanted):
        return
    known = [registry.name for role, registry in _ROLES.items() if implements(factory, role)]
    roles = f", which is {' and '.join(f'{article(name)} {name}' for name in known)}" if known else ""
    raise UserError(
        f"{where}: expected {described(hint)}, got {factory.__name__}{roles}; give a part that has its methods"
    )


def _takes_keypoints(factory: Factory, signature: Signature) -> bool:
    """Say whether something is told what the pose estimator's keypoints mean; the estimator itself is not."""
    if "keypoints" not in signature.arguments or (isinstance(factory, type) and implements(factory, PoseEstimator)):
        return False
    return KeypointSet in alternatives(signature.arguments["keypoints"].hint)


def _is_known(kind: object) -> bool:
    """Say whether a ``type`` is one of ours or of the user's, so that its dict is a part and no other settings."""
    return not isinstance(kind, str) or "." in kind or any(kind in _registered(each) for each in _ROLES.values())


def _class_of(kind: object, registries: Sequence[Registry], where: str) -> Factory:
    """Find a class by its name, in the registries of the role first, or by its dotted path."""
    if callable(kind):
        return kind
    if not isinstance(kind, str):
        raise UserError(f"{where}.type: expected the name of a class, or its dotted path, got {kind!r}")
    if "." in kind:
        return _imported(kind, where)
    found = next((found for registry in [*registries, *_ROLES.values()] if (found := registry.get(kind))), None)
    if found is None:
        role = registries[0].name if registries else "part"
        known = [name for registry in registries or _ROLES.values() for name in _registered(registry)]
        raise UserError(
            f"{where}: there is no {role} {kind!r}; {choices(kind, known)}, or the dotted path of a class of your own"
        )
    return found  # type: ignore[no-any-return]


def _imported(path: str, where: str) -> Factory:
    module, _, name = path.rpartition(".")
    try:
        return getattr(_import(module), name)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        raise UserError(f"{where}: {path!r} cannot be imported: {error}; is its folder on PYTHONPATH?") from error
    except Exception as error:  # a module is a program of the user's: anything can happen in it
        reason = " ".join(str(error).split()) or "no reason given"
        raise UserError(f"{where}: {path!r} cannot be imported: {type(error).__name__}: {reason}") from error


def _import(module: str) -> ModuleType:
    """Import a module; one that is found nowhere else may lie in the working folder.

    The folder comes last on Python's path, so that no file in it stands in for a module that is installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        here = str(Path.cwd())
        if here in sys.path or error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        _LOGGER.info("%s is looked for in the working folder, %s", module, here)
        sys.path.append(here)
        importlib.invalidate_caches()
        return importlib.import_module(module)


def _registered(registry: Registry) -> list[str]:
    registry.import_from_location()
    return sorted(registry.module_dict)
