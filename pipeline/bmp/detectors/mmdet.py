"""Any MMDetection detector as a person detector; knows mmdet's models, not how the loop uses the people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import Tensor

from bmp.config import ConfigSection
from bmp.detectors.mmdet_inputs import Inputs, Letterbox, NetworkInput, from_pipeline
from bmp.errors import MissingExtraError, UserError
from bmp.models import rtmdet_ins
from bmp.models.compute import cast_weights, compute_in, default_dtype, dtype_of, fold_batch_norms, prepare
from bmp.models.configs import load_model_config
from bmp.models.engines import Function, Shapes, check_engine, run_by
from bmp.models.engines.folder import ExportedStage
from bmp.models.mmdet import build_detector, dense_layers, give_to_engine, mmdet_errors_in_one_line
from bmp.models.openmmlab import quiet_imports, quiet_models
from bmp.models.rtmdet_ins import RawDetections
from bmp.ops.boxes import clip
from bmp.ops.masks import enlarged, to_boxes
from bmp.registry import DETECTORS
from bmp.structures import Detections, Image
from bmp.structures.mask_windows import MaskWindows

_LARGEST_INPUT = 1 << 20  # pixels of the usual networks' inputs
_INSTANCES = 100  # so many, of all classes, mmdet's segmenters give by default


@DETECTORS.register_module()
class MMDetDetector:
    """Finds people with any MMDetection detector, with masks where the model makes them.

    Images are resized and padded on the device, and those whose inputs are of one size go through the network
    together. RTMDet-Ins makes masks of the returned people only; other models make the masks of all detections, at a
    smaller size if they would exceed ``mask_bytes``. Models prompted with text
    are not supported.

    Args:
        config: the path of a config file, the name of one that comes with mmdet
            ("rtmdet/rtmdet-ins_l_8xb32-300e_coco.py"), both with or without ".py", or a dict with "model" and
            "test_pipeline" or "test_dataloader". An mmengine ``Config`` counts as a dict.
        checkpoint: a name, path or URL for ``bmp.checkpoints.sources.resolve``; "random" makes weights up from a fixed
            seed.
        device: torch device of the network and of the results.
        score_threshold: people with a score above it are kept (paper: 0.3).
        nms_iou: of two boxes that overlap more than this IoU, the one with the lower score goes (paper: 0.3), after the
            model's own NMS.
        label: class that means person, by name in any case or by index.
        batch_size: images at a time; None is 1 on a CPU, where more fall out of its cache, and 8 elsewhere.
            RTMDet-Ins-L takes about 0.1 GB for each.
        dtype: "float32", or "bfloat16" for autocast in backbone, neck and dense heads; the rest is in float32. None is
            bfloat16 on CUDA with engine "torch", else float32.
        engine: what runs these layers, see ``bmp.models.engines``: of other models than RTMDet-Ins, backbone and neck.
        channels_last, compile: likewise, with engine "torch"; see ``bmp.models.compute.prepare``.
        mask_bytes: bound, for each image of a batch, on what masks take on their way to the image's size, beside the
            result's own N x H x W.

    Raises:
        UserError: for a config that does not exist or has no such class, and a checkpoint that does not fit it.
        ImportError: where mmdet is not installed.
    """

    _people_only = True
    """Whether the model's own limits may count people alone, where mmdet counts things of all classes."""

    def __init__(
        self,
        config: str | Path | ConfigSection,
        checkpoint: str,
        *,
        device: str = "cpu",
        score_threshold: float = 0.3,
        nms_iou: float = 0.3,
        label: str | int = "person",
        batch_size: int | None = None,
        dtype: str | None = None,
        engine: str = "torch",
        channels_last: bool = True,
        compile: bool = False,
        mask_bytes: int = 1 << 29,
    ) -> None:
        for option, value in (("score_threshold", score_threshold), ("nms_iou", nms_iou)):
            if not 0 <= value <= 1:
                raise UserError(f"{option}: expected a number in [0, 1], got {value}; the paper's is 0.3")
        dtype = default_dtype(dtype, device, engine)
        network_dtype = dtype_of(dtype)
        check_engine("MMDetDetector", engine, device=device, dtype=dtype, compile=compile)
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, got {batch_size}; choose how many images fit in memory")
        if mask_bytes < 1:
            raise UserError(f"mask_bytes: expected at least 1, got {mask_bytes}; choose how much memory masks may take")
        with quiet_models():
            try:
                with quiet_imports():
                    import mmdet.models  # noqa: F401 - registers the models
            except ImportError as error:
                raise MissingExtraError("MMDetDetector", "mmdet", "openmmlab", error) from error
            from mmengine.registry import DefaultScope

            settings = load_model_config(config, "mmdet")
            with DefaultScope.overwrite_default_scope("mmdet"):
                dataset = _test_dataset(settings)
                self._label = _label(label, dataset)
                self._inputs = _inputs(settings, dataset)
                model = build_detector(ConfigDict(settings["model"]), checkpoint)  # mmdet reads its parts as attributes
        _check_label(self._label, model)
        model.to(device)
        layers = dense_layers(model)
        self._dense: Function | None = None  # of RTMDet-Ins, which is read sparingly
        if self._people_only and rtmdet_ins.fits(model) and isinstance(self._inputs, Letterbox):
            layers[-1] = rtmdet_ins.QuickHead(layers[-1])
            self._graph = rtmdet_ins.dense_graph(model, layers[-1])
            self._dense = run_by(engine, self._graph, device, network_dtype)
        elif engine != "torch":
            give_to_engine(model, engine, device, network_dtype)
        if engine == "torch":
            fold_batch_norms(*layers)
            if network_dtype != torch.float32:
                # The heads of other models may be called in parts, which autocast does not see.
                cast_weights(*(layers if self._dense is not None else layers[:-1]), dtype=network_dtype)
            prepare(*layers, channels_last=channels_last, compiled=compile)
            if network_dtype != torch.float32:
                for layer in layers:
                    compute_in(layer, network_dtype)
        self._device = torch.device(device)
        self._model: Any = model
        self._score_threshold = score_threshold
        self._nms_iou = nms_iou
        self._batch_size = batch_size or (1 if self._device.type == "cpu" else 8)
        self._mask_bytes = mask_bytes

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Return the people of each image, best first; boxes lie within the image. See ``bmp.stages.Detector``."""
        alike: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            alike.setdefault(self._inputs.key(image), []).append(index)
        people: dict[int, Detections] = {}
        with quiet_models(), torch.inference_mode():
            for indices in alike.values():
                for start in range(0, len(indices), self._batch_size):
                    chunk = indices[start : start + self._batch_size]
                    people.update(zip(chunk, self._detect([images[index] for index in chunk]), strict=True))
        return [people[index] for index in range(len(images))]

    def exported(self) -> ExportedStage:
        """Return the network and its constants for ``bmp export``; ``UserError`` for what its runner cannot decode."""
        inputs = self._inputs
        if self._dense is None or not isinstance(inputs, Letterbox) or inputs.size is None or not self._has_plain_nms():
            raise UserError(
                f"detector: {type(self._model).__name__} cannot be exported; take an RTMDet-Ins whose test pipeline "
                "pads to one size and whose NMS is the plain one"
            )
        width, height = max(inputs.size[0], inputs.scale[0]), max(inputs.size[1], inputs.scale[1])
        head, preprocessor = self._model.bbox_head, self._model.data_preprocessor
        settings = {
            "height": height,
            "width": width,
            "scale": list(inputs.scale),
            "keep_ratio": inputs.keep_ratio,
            "padding": list(inputs.padding),
            "order": "rgb" if preprocessor._channel_conversion else "bgr",
            "mean": preprocessor.mean.flatten().tolist(),
            "std": preprocessor.std.flatten().tolist(),
            "strides": [stride[0] for stride in head.prior_generator.strides],
            "label": self._label,
            "score_threshold": self._score_threshold,
            "network_nms_iou": float(head.test_cfg.nms["iou_threshold"]),
            "most": int(head.test_cfg.max_per_img),
            "nms_iou": self._nms_iou,
            "mask_threshold": float(torch.tensor(head.test_cfg.mask_thr_binary).logit()),
            "kernel_weights": list(head.weight_nums),
            "kernel_biases": list(head.bias_nums),
        }
        shapes: Shapes = {"pixels": ((None, 3, height, width), torch.float32)}
        return ExportedStage("rtmdet-ins", {"network": (self._graph, shapes)}, settings)

    def _has_plain_nms(self) -> bool:
        return str(self._model.bbox_head.test_cfg.nms.get("type", "nms")) == "nms"

    def _detect(self, images: Sequence[Image]) -> Iterator[Detections]:
        inputs = [self._inputs.prepare(image.to(self._device)) for image in images]
        found = self._read(images, inputs) if self._dense is None else self._read_sparingly(images, inputs)
        return map(self._to_people, images, found)

    def _to_people(self, image: Image, found: RawDetections) -> Detections:
        boxes = clip(found.boxes, image.height, image.width)
        # What lies in the padding has no area left.
        rows = ((found.scores > self._score_threshold) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)).nonzero()[:, 0]
        rows = rows[self._without_overlaps(boxes[rows], found.scores[rows])]
        masks = None if found.soft is None else self._masks(found, rows, image)
        return Detections(boxes[rows], found.scores[rows], masks)

    def _without_overlaps(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """Return the rows of the boxes that stay, best first."""
        from torchvision.ops import nms  # importing it takes longer than all of this package

        return nms(boxes, scores, self._nms_iou)  # type: ignore[no-any-return]

    def _masks(self, found: RawDetections, rows: Tensor, image: Image) -> MaskWindows:
        """Return the masks of ``rows`` in the size of the image, a few at a time."""
        assert found.soft is not None
        if not len(rows):
            return MaskWindows.empty(image.height, image.width, self._device)
        step = max(1, self._mask_bytes // (8 * _LARGEST_INPUT))
        parts = [
            enlarged(found.soft(few), image.height, image.width, found.threshold) for few in torch.split(rows, step)
        ]
        return MaskWindows.concat(parts)

    def _read_sparingly(self, images: Sequence[Image], inputs: Sequence[NetworkInput]) -> Iterator[RawDetections]:
        """Read RTMDet-Ins."""
        factors = [each.metainfo["scale_factor"] for each in inputs]
        shown = [
            (round(image.height * factor[1]), round(image.width * factor[0]))
            for image, factor in zip(images, factors, strict=True)
        ]
        pixels = self._model.data_preprocessor({"inputs": [each.pixels for each in inputs]}, False)["inputs"]
        assert self._dense is not None
        found = rtmdet_ins.read(self._model, self._dense, pixels, shown, self._label, self._score_threshold)
        for each, (across, down) in zip(found, factors, strict=True):
            yield replace(each, boxes=each.boxes / each.boxes.new_tensor((across, down, across, down)))

    def _read(self, images: Sequence[Image], inputs: Sequence[NetworkInput]) -> Iterator[RawDetections]:
        """Read any other model; its masks have the size that it is given as the image's."""
        from mmdet.structures import DetDataSample

        sizes = [self._mask_size(image) for image in images]
        samples = []
        for image, each, (height, width) in zip(images, inputs, sizes, strict=True):
            across, down = each.metainfo["scale_factor"]
            factor = (across * image.width / width, down * image.height / height)
            samples.append(
                DetDataSample(metainfo={**each.metainfo, "ori_shape": (height, width), "scale_factor": factor})
            )
        outputs = self._model.test_step({"inputs": [each.pixels for each in inputs], "data_samples": samples})
        for image, output, (height, width) in zip(images, outputs, sizes, strict=True):
            people = output.pred_instances
            people = people[people.labels == self._label]
            masks = torch.as_tensor(people.masks, device=self._device) if "masks" in people else None
            boxes = people.bboxes
            if masks is not None and not boxes.any():  # some segmenters, SOLO for one, make no boxes
                boxes = to_boxes(masks)
            across, down = image.width / width, image.height / height
            boxes = boxes * boxes.new_tensor((across, down, across, down))
            soft = None if masks is None else partial(_floats, masks)
            yield RawDetections(boxes.float(), people.scores.float(), soft)

    def _mask_size(self, image: Image) -> tuple[int, int]:
        """Return height and width of the image or, if masks of that size take too much memory, smaller ones."""
        shrink = min(1.0, math.sqrt(self._mask_bytes / (4 * _INSTANCES * image.height * image.width)))
        return max(1, round(image.height * shrink)), max(1, round(image.width * shrink))


def _floats(masks: Tensor, rows: Tensor) -> Tensor:
    return masks[rows].float()


def _test_dataset(config: ConfigSection) -> ConfigSection:
    """Return the section of the data that the model is tested on, empty if there is none."""
    dataset = config.get("test_dataloader", {}).get("dataset", {})
    while "pipeline" not in dataset and ("dataset" in dataset or "datasets" in dataset):
        dataset = dataset["dataset"] if "dataset" in dataset else dataset["datasets"][0]
    return dataset  # type: ignore[no-any-return]


def _label(label: str | int, dataset: ConfigSection) -> int:
    """Return the index of a class, given by name or index."""
    if isinstance(label, int):
        return label
    from mmdet.registry import DATASETS

    kind = dataset.get("type")
    owner = DATASETS.get(kind) if isinstance(kind, str) else kind
    classes = (dataset.get("metainfo") or {}).get("classes") or getattr(owner, "METAINFO", {}).get("classes", ())
    names = [str(name).lower() for name in classes]
    if label.lower() not in names:
        listed = ", ".join(map(str, classes)) or "none; name them in test_dataloader.dataset.metainfo"
        raise UserError(
            f"label: expected a class of the model, got {label!r}; give the name or the index of the class that means "
            f"person, there is: {listed}"
        )
    return names.index(label.lower())


def _check_label(label: int, model: Any) -> None:
    counts = [module.num_classes for module in model.modules() if isinstance(getattr(module, "num_classes", None), int)]
    if label < 0 or (counts and label >= max(counts)):
        raise UserError(
            f"label: expected a class of the model, which has {max(counts)}, got index {label}; the first is 0"
        )


def _inputs(config: ConfigSection, dataset: ConfigSection) -> Inputs:
    pipeline = dataset.get("pipeline") or config.get("test_pipeline")
    if not pipeline:
        raise UserError("config: expected a test_pipeline, found none; add it, or test_dataloader.dataset.pipeline")
    with mmdet_errors_in_one_line("the test pipeline"):
        return from_pipeline(pipeline)
