"""Any MMPose top-down model as a pose estimator; knows MMPose's models, not how the loop uses the poses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from bmp.config import ConfigSection
from bmp.errors import MissingExtraError, UserError
from bmp.label_sets import COCO_KEYPOINTS, KEYPOINT_SETS, KeypointSet, conversion, keypoint_set
from bmp.models.compute import (
    autocast,
    cast_weights,
    default_dtype,
    dtype_of,
    fold_batch_norms,
    padded_rows,
    prepare,
    to_float32,
)
from bmp.models.configs import load_model_config
from bmp.models.engines import Function, Shapes, check_engine, run_by
from bmp.models.engines.folder import ExportedStage
from bmp.models.openmmlab import quiet_imports, quiet_models
from bmp.ops.heatmaps import decode_dark_udp, decode_expected_oks, oks_variances
from bmp.poses.crops import Windows, chunks, crop, windows_around
from bmp.registry import POSES
from bmp.structures import Detections, Image, Poses, sent
from bmp.structures.mask_windows import MaskWindows

Decoder = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes maps float32 (B, K, H, W); returns locations (B, K, 2) in map cells and scores (B, K)."""

_PADDING = 1.25


@dataclass
class _CropPoses:
    """The network's estimates for B people: keypoints (B, K, 2) in crop pixels, the rest (B, K) or None."""

    keypoints: Tensor
    scores: Tensor
    visibility: Tensor | None = None
    presence: Tensor | None = None
    expected_oks: Tensor | None = None

    def first(self, count: int) -> _CropPoses:
        """Return those of the first people."""
        kept: list[Any] = [None if values is None else values[:count] for values in vars(self).values()]
        return _CropPoses(*kept)


@POSES.register_module()
class MMPoseEstimator:
    """Estimates poses with an MMPose top-down model, all people of all images in batches on the device.

    Crops, mask conditioning, normalisation, the flip test and the decoding of unbiased (UDP) heatmaps are batched
    tensor operations; models with other codecs (SimCC, biased heatmaps, regression) decode with their own head.

    What the model's keypoints mean is told by ``keypoints = "NAME"`` in its config, a name of
    ``bmp.label_sets.KEYPOINT_SETS``, else by the data set that MMPose's config tests it on, else by their number.

    Args:
        config: see ``bmp.models.configs.load_model_config``: "models/pmpose_b.py", the name of an MMPose config, a
            path, or a dict.
        checkpoint: a name or path of weights; "random" makes them up.
        device: torch device of the network.
        batch_size: people at a time; with the flip test the network sees twice as many crops.
        flip_test: average with the mirrored crop.
        decoder: for unbiased heatmaps: "dark_udp", "expected_oks" or a function; None is the model's own.
        alpha: strength of the mask conditioning in [0, 1]; 0 is none, for models that were trained without.
        without_mask: the condition for a person without a mask, or with an empty one. "box" fills the box: the
            coarsest of the masks that PMPose and MaskPose were trained with, who never saw a person without. "image"
            shows the image as it is. "refuse" raises.
        visibility_from: "score" uses the score as the visibility; None is the model's own estimate.
        presence_from: likewise for the presence.
        scores_from: "map", the height of the maximum, or "expected_oks", the model's estimate of how well it did.
            None is the latter where the model has it, as the published PMPose does, else the former.
        dtype: "float32" or "bfloat16", in which the network computes; decoding is always in float32. None is bfloat16
            on CUDA with engine "torch", else float32.
        engine: what runs the network, see ``bmp.models.engines``; of models that decode by themselves not the head.
        channels_last, compile: for backbone and head with engine "torch", see ``bmp.models.compute.prepare``.
        keypoints: which of the model's keypoints are wanted: the name of a published set, all of which the model has to
            have; "all"; or a set of one's own, which are the model's first. None is COCO's 17 where the model has
            them, else all.

    Raises:
        UserError: for a config, checkpoint or option that does not go together with the model, in particular for a
            model without estimates of visibility or presence where nothing is chosen to stand in.
        ImportError: where MMPose is not installed.
    """

    def __init__(
        self,
        config: str | Path | ConfigSection,
        checkpoint: str,
        *,
        device: str = "cpu",
        batch_size: int = 32,
        flip_test: bool = True,
        decoder: str | Decoder | None = None,
        alpha: float = 0.25,
        without_mask: str = "box",
        visibility_from: str | None = None,
        presence_from: str | None = None,
        scores_from: str | None = None,
        dtype: str | None = None,
        engine: str = "torch",
        channels_last: bool = False,
        compile: bool = False,
        keypoints: str | KeypointSet | None = None,
    ) -> None:
        _check("without_mask", without_mask, ("box", "image", "refuse"))
        _check("visibility_from", visibility_from, (None, "score"))
        _check("presence_from", presence_from, (None, "score"))
        _check("scores_from", scores_from, (None, "map", "expected_oks"))
        if batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, got {batch_size}; choose how many people fit in memory")
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha: expected a number in [0, 1], got {alpha}; PMPose and MaskPose use 0.25")
        dtype = default_dtype(dtype, device, engine)
        check_engine("MMPoseEstimator", engine, device=device, dtype=dtype, compile=compile)
        try:
            with quiet_imports():
                from bmp.models import topdown as models
                from bmp.models.pmpose import heads
        except ImportError as error:
            raise MissingExtraError("MMPoseEstimator", "MMPose", "openmmlab", error) from error

        settings = load_model_config(config, "mmpose")
        model: Any = models.build_topdown(settings["model"], checkpoint)
        head = model.head
        self._probabilistic = isinstance(head, heads.ProbabilisticHeatmapHead)
        if self._probabilistic:
            head.error_layers = None  # a fifth of the head's work, and not used here
        else:
            _expect_substitutes(type(head).__name__, visibility_from, presence_from, scores_from)
        network = _network_keypoints(settings, _keypoint_count(head))
        self.keypoints, self._chosen = _chosen_keypoints(network, keypoints)
        self._device = torch.device(device)
        self._model: Any = model.to(self._device)
        self._batch_size = batch_size
        self._flip_test = flip_test
        self._alpha = alpha
        self._without_mask = without_mask
        self._visibility_from = visibility_from
        self._presence_from = presence_from
        self._scores_from = scores_from or (head.scores_from if self._probabilistic else "map")
        self._dtype = dtype_of(dtype)
        # To few numbers of crops, for each of which kernels are chosen once.
        self._pads = self._device.type == "cuda" or compile
        self._run: Function | None = None  # in place of the model
        self._width, self._height = _input_size(head.decoder)
        self._unbiased = _is_unbiased(settings, head.decoder)
        self._flip_indices = list(network.flip_indices)
        self._decode = _decoder_of(head, model.test_cfg, decoder, self.keypoints)
        self._graph = models.feature_graph(model) if self._decode is None else models.map_graph(model)
        if engine == "torch":
            fold_batch_norms(model.backbone, head)
            if self._dtype != torch.float32:  # a head that decodes by itself does so without autocast
                cast_weights(model.backbone, *([] if self._decode is None else [head]), dtype=self._dtype)
            prepare(model.backbone, head, channels_last=channels_last, compiled=compile)
        else:
            self._run = run_by(engine, self._graph, self._device, self._dtype)

    def estimate(self, images: Sequence[Image], people: Sequence[Detections]) -> list[Poses]:
        """Estimate a pose for each person; see ``bmp.stages.PoseEstimator``.

        People are conditioned on their masks, or as ``without_mask`` says. Raises ``UserError`` where that is "refuse"
        and a person has no mask.
        """
        if len(images) != len(people):
            raise ValueError(f"estimate: expected people of {len(images)} images, got {len(people)}; pair them up")
        counts = [len(each) for each in people]
        if not any(counts):
            return [Poses.empty(len(self.keypoints), self._device) for _ in images]
        with torch.inference_mode(), quiet_models():
            rows = Poses.concat(
                [self._chunk(chunk) for chunk in chunks(images, people, self._batch_size, self._device)]
            )
        ends = torch.tensor(counts).cumsum(0).tolist()
        return [rows[end - count : end] for count, end in zip(counts, ends, strict=True)]

    def exported(self) -> ExportedStage:
        """Return the network and its constants for ``bmp export``; ``UserError`` for what its runner cannot decode."""
        head, preprocessor = self._model.head, self._model.data_preprocessor
        decode = self._decode.func if isinstance(self._decode, partial) else None
        if decode not in (decode_dark_udp, decode_expected_oks) or not preprocessor._enable_normalize:
            raise UserError(
                f"pose: {type(head).__name__} cannot be exported; take a model with unbiased heatmaps, such as PMPose, "
                "and one of the decoders that come with it"
            )
        assert isinstance(self._decode, partial)
        columns, rows = head.decoder.heatmap_size
        settings = {
            "width": self._width,
            "height": self._height,
            "padding": _PADDING,
            "unbiased": self._unbiased,
            "alpha": self._alpha,
            "without_mask": self._without_mask,
            # Our crops are red, green, blue where the model's own preprocessor would turn OpenCV's order into that.
            "order": "rgb" if preprocessor._channel_conversion else "bgr",
            "mean": preprocessor.mean.flatten().tolist(),
            "std": preprocessor.std.flatten().tolist(),
            "flip_test": self._flip_test,
            "chosen": self._chosen,
            "mirrored": [self._flip_indices[row] for row in self._chosen],
            "keypoints": list(self.keypoints.names),
            "normalize": head.normalize if self._probabilistic else None,
            "decoder": "dark_udp" if decode is decode_dark_udp else "expected_oks",
            "blur_kernel_size": self._decode.keywords.get("blur_kernel_size"),
            "oks_variances": oks_variances(self.keypoints.sigmas, rows, columns),
            "scores_from": self._scores_from,
            "from_score": [
                name
                for name, source in (("visibility", self._visibility_from), ("presence", self._presence_from))
                if source == "score"
            ],
        }
        shapes: Shapes = {"crops": ((None, 3, self._height, self._width), torch.float32)}
        return ExportedStage("topdown", {"network": (self._graph, shapes)}, settings)

    def _chunk(self, people: Sequence[tuple[Image, Detections]]) -> Poses:
        """Estimate poses of people of several images at once."""
        crops, windows = zip(*(self._crop(image.pixels, part) for image, part in people), strict=True)
        return self._to_poses(torch.cat(crops), Windows.concat(windows))

    def _crop(self, pixels: Tensor, people: Detections) -> tuple[Tensor, Windows]:
        boxes, masks = people.boxes, people.windows
        if self._alpha > 0 and self._without_mask == "refuse":
            _expect_masks(masks, len(people))
        windows = windows_around(boxes, aspect=self._width / self._height, padding=_PADDING)
        crops = crop(
            pixels,
            windows,
            width=self._width,
            height=self._height,
            unbiased=self._unbiased,
            masks=masks,
            boxes=boxes if self._without_mask == "box" else None,
            alpha=self._alpha,
        )
        return crops, windows

    def _to_poses(self, crops: Tensor, windows: Windows) -> Poses:
        count = len(crops)
        if self._pads:
            rows = torch.tensor(padded_rows(count, self._batch_size))
            crops = crops.index_select(0, sent(rows, crops.device))
        inputs = self._normalize(crops)
        found = (self._from_maps(inputs) if self._decode is not None else self._from_head(inputs)).first(count)
        scores = found.scores if self._scores_from == "map" else found.expected_oks
        visibility = scores if self._visibility_from == "score" else found.visibility
        presence = scores if self._presence_from == "score" else found.presence
        assert scores is not None  # the constructor saw to it, and to the other two
        assert visibility is not None
        assert presence is not None
        return Poses(
            keypoints=windows.to_image(found.keypoints, self._width, self._height),
            scores=scores.clamp(0, 1),
            visibility=visibility.clamp(0, 1),
            presence=presence.clamp(0, 1),
            expected_oks=None if found.expected_oks is None else found.expected_oks.clamp(0, 1),
        )

    def _normalize(self, crops: Tensor) -> Tensor:
        """Prepare RGB crops as the model's own data preprocessor would prepare BGR ones."""
        preprocessor = self._model.data_preprocessor
        inputs = crops if preprocessor._channel_conversion else crops.flip(1)
        if not preprocessor._enable_normalize:
            return inputs.float()
        normalized: Tensor = (inputs - preprocessor.mean) / preprocessor.std
        return normalized

    def _network(self) -> torch.autocast:
        return autocast(self._device, self._dtype)

    def _from_maps(self, inputs: Tensor) -> _CropPoses:
        """Run a model with unbiased heatmaps; crops and mirrored crops make one batch."""
        count = len(inputs)
        batch = torch.cat((inputs, inputs.flip(-1))) if self._flip_test else inputs
        maps, *scalars = (self._averaged(values.float(), count) for values in self._outputs(batch))
        assert self._decode is not None
        locations, scores = self._decode(maps)
        # The centres of the first and the last cell lie on the window's edges.
        cells = locations.new_tensor((maps.shape[-1] - 1, maps.shape[-2] - 1))
        keypoints = locations / cells * locations.new_tensor((self._width, self._height))
        presence, visibility, expected_oks = scalars or (None, None, None)
        return _CropPoses(keypoints, scores, visibility, presence, expected_oks)

    def _outputs(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Return the heatmaps of crops, and of a probabilistic head presence, visibility and expected OKS."""
        if self._run is not None:
            maps, *scalars = self._run(batch)
            return (self._model.head.maps(maps) if self._probabilistic else maps, *scalars)
        with self._network():
            output = self._model.head(self._model.extract_feat(batch))
        if not self._probabilistic:
            return (output,)
        return output.heatmaps, output.presence, output.visibility, output.expected_oks

    def _averaged(self, values: Tensor, count: int) -> Tensor:
        """Average the first ``count`` rows with the mirrored rest; keep the wanted keypoints."""
        straight = values[:count, self._chosen]
        if not self._flip_test:
            return straight
        mirrored = values[count:, [self._flip_indices[row] for row in self._chosen]]
        return (straight + (mirrored.flip(-1) if values.ndim == 4 else mirrored)) * 0.5

    def _from_head(self, inputs: Tensor) -> _CropPoses:
        """Run any other model and let its head do the flip test and the decoding, in float32."""
        from mmpose.structures import PoseDataSample

        features = [self._features(inputs)]
        if self._flip_test:
            features.append(self._features(inputs.flip(-1)))
        sample = PoseDataSample(
            metainfo={"flip_indices": self._flip_indices, "input_size": (self._width, self._height)}
        )
        predictions = self._model.head.predict(
            features if self._flip_test else features[0],
            [sample] * len(inputs),
            test_cfg={**self._model.test_cfg, "flip_test": self._flip_test, "output_heatmaps": False},
        )
        keypoints = torch.stack([torch.as_tensor(each.keypoints[0, self._chosen, :2]) for each in predictions])
        scores = torch.stack([torch.as_tensor(each.keypoint_scores[0, self._chosen]) for each in predictions])
        return _CropPoses(keypoints.float().to(self._device), scores.float().to(self._device))

    def _features(self, inputs: Tensor) -> Any:
        if self._run is not None:
            return self._run(inputs)
        with self._network():
            features = self._model.extract_feat(inputs)
        return features if self._dtype == torch.float32 else to_float32(features)


def _expect_masks(masks: MaskWindows | None, count: int) -> None:
    """Raise ``UserError`` unless each of ``count`` people has a mask that is not empty."""
    bare = count if masks is None else int((~masks.any()).sum())
    if bare:
        raise UserError(
            f"pose: {bare} people have no mask, and the model is conditioned on masks; take a detector "
            'that makes masks, or without_mask="box"'
        )


def _check(option: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise UserError(
            f"{option}: expected one of {', '.join(map(repr, allowed))}, got {value!r}; choose one of these"
        )


def _expect_substitutes(
    head: str, visibility_from: str | None, presence_from: str | None, scores_from: str | None
) -> None:
    """Raise ``UserError`` where an estimate is wanted that a head without branches for it does not make."""
    for option, value in (("visibility_from", visibility_from), ("presence_from", presence_from)):
        if value is None:
            what = option.removesuffix("_from")
            raise UserError(
                f'{option}: {head} does not estimate {what}; say {option}="score" to let the score stand in for it'
            )
    if scores_from == "expected_oks":
        raise UserError(f'scores_from: {head} does not estimate the OKS; use scores_from="map"')


def _keypoint_count(head: Any) -> int:
    """Return how many keypoints a head predicts; heads of different kinds say it differently."""
    if hasattr(head, "num_joints"):
        return int(head.num_joints)
    offsets_too = getattr(head.decoder, "heatmap_type", "gaussian") == "combined"
    return int(head.out_channels) // (3 if offsets_too else 1)


_MMPOSE_NAMES = {"halpe": "halpe136", "ochuman": "coco", "exlpose": "crowdpose"}
"""Sets that MMPose calls otherwise, by the names of its files of metainfo."""


def _network_keypoints(settings: ConfigSection, count: int) -> KeypointSet:
    """Return what the ``count`` keypoints of a model mean; names are made up for those of which nothing is known."""
    told = settings.get("keypoints")
    if told is not None:
        known = keypoint_set(told)
        if len(known) != count:
            raise UserError(f"config: keypoints={known.name!r} are {len(known)}, but its model has {count}; correct it")
        return known
    for known in _likely_sets(settings):
        if len(known) == count:
            return known
    if count < len(COCO_KEYPOINTS):
        names = tuple(f"keypoint_{number}" for number in range(count))
        return KeypointSet(names, (0.079,) * count, (), ())
    # Top-down models of people with more keypoints than COCO begin with COCO's, as far as is known.
    more = tuple(f"keypoint_{number}" for number in range(len(COCO_KEYPOINTS), count))
    sigmas = (*COCO_KEYPOINTS.sigmas, *[0.079] * len(more))
    coco = COCO_KEYPOINTS
    return KeypointSet((*coco.names, *more), sigmas, coco.flip_pairs, coco.skeleton, coco.face)


def _likely_sets(settings: ConfigSection) -> Iterator[KeypointSet]:
    """Yield the set of the data set that a config tests its model on, then those known by their number alone."""
    dataset = settings.get("test_dataloader", {}).get("dataset", {})
    files = [str((dataset.get("metainfo") or {}).get("from_file", "")), str(dataset.get("type", ""))]
    for file in files:
        name = PurePosixPath(file).stem.lower().removesuffix("dataset").replace("cocowholebody", "coco_wholebody")
        name = _MMPOSE_NAMES.get(name, name)
        if name in KEYPOINT_SETS:
            yield KEYPOINT_SETS[name]
    yield from (KEYPOINT_SETS[name] for name in ("coco", "pmpose", "maskpose_wb", "coco_wholebody", "halpe136"))


def _chosen_keypoints(network: KeypointSet, wanted: str | KeypointSet | None) -> tuple[KeypointSet, list[int]]:
    """Return the set that is wanted of a network's, and which of the network's keypoints they are."""
    everything = list(range(len(network)))
    if wanted == "all":
        return network, everything
    if wanted is None:
        reading = conversion(network, COCO_KEYPOINTS)
        if reading.missing:
            return network, everything
        wanted = COCO_KEYPOINTS
    chosen = keypoint_set(wanted)
    if not chosen.name:
        if len(network) < len(chosen):
            raise UserError(
                f"config: expected a model of {len(chosen)} keypoints or more, got {len(network)}; "
                "choose one that begins with these keypoints"
            )
        return chosen, everything[: len(chosen)]
    reading = conversion(network, chosen)
    if reading.missing:
        raise UserError(
            f"keypoints: {chosen} are not all among the {len(network)} of this model, it lacks "
            f"{', '.join(reading.missing):.100}; take keypoints='all', or another model"
        )
    return chosen, [origin[0] for origin in reading.origins]


def _input_size(codec: Any) -> tuple[int, int]:
    """Return width and height of the crops."""
    if not hasattr(codec, "input_size"):
        raise UserError(
            f"{type(codec).__name__}: expected a codec with an input_size, found none; choose another model"
        )
    width, height = codec.input_size
    return int(width), int(height)


def _is_unbiased(settings: ConfigSection, codec: Any) -> bool:
    """Say whether the model was trained on UDP crops: its test pipeline tells, else its codec does."""
    dataset = settings.get("test_dataloader", {}).get("dataset", {})
    for step in dataset.get("pipeline", ()):
        if step["type"] == "TopdownAffine":
            return bool(step.get("use_udp", False))
    return type(codec).__name__ in ("UDPHeatmap", "OKSHeatmap")


def _decoder_of(
    head: Any, test_cfg: ConfigSection, choice: str | Decoder | None, keypoints: KeypointSet
) -> Decoder | None:
    """Return the batched decoder for a head with unbiased heatmaps, None for one that has to decode itself."""
    from mmpose.models.heads import HeatmapHead

    codec = head.decoder
    unbiased = isinstance(head, HeatmapHead) and type(codec).__name__ in ("UDPHeatmap", "OKSHeatmap")
    if not unbiased or getattr(codec, "heatmap_type", "gaussian") != "gaussian" or test_cfg.get("shift_heatmap", False):
        if choice is not None:
            raise UserError(
                f"decoder: {type(head).__name__} with {type(codec).__name__} decodes by itself; leave the option out"
            )
        return None
    if callable(choice):
        return choice
    name = choice or getattr(codec, "decoder", "dark_udp")
    _check("decoder", name, ("dark_udp", "expected_oks"))
    if name == "expected_oks":
        return partial(decode_expected_oks, sigmas=keypoints.sigmas)
    return partial(decode_dark_udp, blur_kernel_size=codec.blur_kernel_size)
