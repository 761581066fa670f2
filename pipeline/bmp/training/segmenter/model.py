"""SAM 2.1 as a network to train on points: its prompts, its predictions one after the other, its checkpoints.

It does not know how points are chosen, how losses are computed, or where images and people come from.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from bmp.build import build_part
from bmp.checkpoints.sources import RANDOM
from bmp.config import ConfigSection
from bmp.datasets.posed import PosedImage
from bmp.errors import UserError, choices
from bmp.evaluation.pose_to_mask import segment_poses
from bmp.io.annotations import Annotation
from bmp.models.compute import dtype_of
from bmp.models.sam2 import PIXEL_MEAN, PIXEL_STD, SAM2Network, build_sam2
from bmp.registry import POINT_SAMPLERS, PROMPTERS
from bmp.segmenters.detected import DetectedMasks
from bmp.segmenters.mask_prompted import MaskPromptedSegmenter
from bmp.segmenters.point_sampling import Keypoints, PointSampler
from bmp.segmenters.prompted import best_mask, mask_prompt
from bmp.segmenters.sam2 import SAM2NetworkSegmenter
from bmp.stages import Prompter, Segmenter
from bmp.training.segmenter.cache import EmbeddingCache
from bmp.training.segmenter.losses import Prediction, SAMLoss, mean_people

if TYPE_CHECKING:
    from bmp.training.segmenter.data import PosedMasks

_NOBODY = -1024.0  # logits of the mask of somebody who is not there
_HALF = 0.5  # the prompt encoder adds half a pixel of the network's input


@MODELS.register_module()
class PoseSAM(BaseModel):  # type: ignore[misc,unused-ignore]
    """SAM 2.1 in training (paper §3.2): points in, corrections one by one, losses out.

    Its tensors have the names that they have in sam2, so a checkpoint of MMEngine can be given to ``SAM2Segmenter``
    as it is. The image encoder runs once an image, however many people there are in it.

    A prediction from a single point is three masks, all others are one. The mask handed on to a correction is the
    one of highest predicted IoU, as low-resolution logits, and gradients pass through it as in sam2's own training.

    Args:
        model: as for ``SAM2Segmenter``: "sam2.1_hiera_b+" or another of sam2's, or the path of a YAML file.
        checkpoint: the weights to start from, see ``bmp.checkpoints.sources.resolve``; "random" makes them up.
        sampler: config of a ``PointSampler``, or one.
        trainable: "decoder" trains prompt encoder and mask decoder and leaves the image encoder as it is, "all"
            trains whatever an image's masks depend on. What serves videos only, and box prompts, never is trained.
        loss: arguments of ``SAMLoss``.
        dtype: "float32", "bfloat16" for autocast in image encoder and mask decoder, or "auto": bfloat16 where the
            device is a GPU that has it.
        cache: folder of an ``EmbeddingCache``, None for none. For samples without augmentation, and for "decoder".
            An image takes 44 MB with b+.
        starts: chance in [0, 1] that a person's first prediction is a correction of a mask that the sample has for it,
            such as a detector's. 0 is SAM's training.
        fresh: parts whose weights are made up and not those of the checkpoint, such as "sam_mask_decoder": what it
            learnt there is then forgotten.
        test: how ``segmenter`` makes masks: "prompter", a config; "starts", whether it starts from detected masks, by
            default where ``starts`` is not 0; and what else ``SAM2Segmenter`` takes but for network, device and dtype.
            None prompts as SAM-pose2seg, with the three most visible keypoints.

    Raises:
        ImportError: where sam2 is not installed.
        UserError: for what cannot be built, and for a cache of embeddings that change.
    """

    image_encoder: nn.Module
    sam_prompt_encoder: Any
    sam_mask_decoder: Any
    no_mem_embed: nn.Parameter

    def __init__(
        self,
        model: str,
        checkpoint: str,
        sampler: PointSampler | ConfigSection,
        trainable: Literal["decoder", "all"] = "decoder",
        loss: ConfigSection | None = None,
        dtype: str = "auto",
        cache: str | os.PathLike[str] | None = None,
        starts: float = 0.0,
        fresh: Sequence[str] = (),
        test: ConfigSection | None = None,
    ) -> None:
        network = build_sam2(model, checkpoint)
        _forget(network, fresh, model)
        side = network.image_size
        super().__init__(data_preprocessor=PosePreprocessor(side))
        for name, child in network.named_children():
            self.add_module(name, child)
        for name, parameter in network.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.side: int = side
        self.sampler: PointSampler = build_part(sampler, POINT_SAMPLERS) if isinstance(sampler, Mapping) else sampler
        self.loss = SAMLoss(**(loss or {}))
        self.trainable = trainable
        self._dtype = dtype
        if dtype != "auto":
            dtype_of(dtype)
        self._test = dict(test or {})
        self._tested_with_starts = bool(self._test.pop("starts", starts > 0))
        prompter = self._test.pop("prompter", {"type": "MaxVisibility", "count": 3})
        self._prompter: Prompter = build_part(prompter, PROMPTERS) if isinstance(prompter, Mapping) else prompter
        self._cache_folder = cache
        self._cache: EmbeddingCache | None = None
        self._in_use: SAM2Network | None = None
        self._starts = starts
        if not 0 <= starts <= 1:
            raise UserError(f"starts: expected a chance in [0, 1], got {starts}")
        if trainable not in ("decoder", "all"):
            raise UserError(f"trainable: expected 'decoder' or 'all', got {trainable!r}")
        if cache is not None and trainable == "all":
            raise UserError("cache: embeddings change while the image encoder is trained; leave it out")
        self._choose_trained()

    def _choose_trained(self) -> None:
        self.requires_grad_(False)
        trained = [self.sam_prompt_encoder, self.sam_mask_decoder]
        if self.trainable == "all":
            trained.append(self.image_encoder)
            self.no_mem_embed.requires_grad_(True)
        for part in trained:
            part.requires_grad_(True)
        # Several processes wait for a gradient of all that is trained, and these get none.
        for corner in self.sam_prompt_encoder.point_embeddings[2:]:
            corner.requires_grad_(False)
        if not self.sampler.corrections and not self._starts:
            self.sam_prompt_encoder.mask_downscaling.requires_grad_(False)

    def train(self, mode: bool = True) -> PoseSAM:
        """Switch to training or evaluation; a frozen encoder stays in evaluation."""
        super().train(mode)
        if self.trainable == "decoder":
            self.image_encoder.eval()
        return self

    def forward(
        self,
        inputs: Tensor | Sequence[PosedImage],
        data_samples: Sequence[PosedMasks] | None = None,
        mode: str = "loss",
    ) -> dict[str, Tensor] | list[list[Annotation]]:
        """Return losses or masks, as MMEngine requests them.

        Args:
            inputs: for "loss" float32 (B, 3, S, S), normalised; for "predict" images with the poses in them.
            data_samples: for "loss" the people of each image; at least one in the batch.
            mode: "loss", or "predict" for what ``segment_poses`` gives with ``segmenter()``.

        Returns:
            scalars by name, to be added up; or a list of annotations an image, a row a person.
        """
        if mode == "loss":
            assert isinstance(inputs, Tensor)
            assert data_samples is not None
            return self._losses(inputs, data_samples)
        assert not isinstance(inputs, Tensor)
        rows = segment_poses([inputs], self.segmenter())
        return [[next(rows) for _ in posed.annotations] for posed in inputs]

    def segmenter(self) -> Segmenter:
        """Return the segmenter that these weights make, for the model's device; it shares them."""
        segmenter = SAM2NetworkSegmenter(self._prompter, self._network, **self._test)
        return MaskPromptedSegmenter(segmenter, DetectedMasks()) if self._tested_with_starts else segmenter

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode normalised images float32 (B, 3, S, S): (B, C, ., .) at strides 4, 8 and 16."""
        with torch.set_grad_enabled(self.trainable == "all" and torch.is_grad_enabled()):
            return self._network.encode(images)

    def decode(
        self,
        features: Sequence[Tensor],
        points: Tensor,
        labels: Tensor,
        previous: Tensor | None = None,
        multimask: bool = False,
    ) -> Prediction:
        """Answer the points of N people.

        Args:
            features: of ``features``, a row a person.
            points: float32 (N, P, 2) in pixels of the network's input, 0.5 being the middle of the first.
            labels: int8 (N, P).
            previous: logits (N, h, w) of an earlier answer, which the points are to correct.
            multimask: three masks instead of one.
        """
        logits, ious, object_scores = self._network.decode(features, points - _HALF, labels, previous, multimask)
        # As in SAM 2's training: who is said not to be there has no mask, and no gradient passes through it.
        logits = logits.where(object_scores[:, :, None, None] > 0, _NOBODY)
        return Prediction(logits, ious, object_scores)

    def features(self, embeddings: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Turn the output of ``encode`` into the input of the mask decoder, by the decoder's own first layers."""
        return self._network.features(embeddings)

    def _losses(self, images: Tensor, people: Sequence[PosedMasks]) -> dict[str, Tensor]:
        features = self.features(self._embeddings(images, people))
        ground_truth = torch.cat([own.masks for own in people])
        keypoints = Keypoints.concat([own.keypoints for own in people])
        sizes = torch.tensor([len(own.masks) for own in people])
        owners = torch.arange(len(people)).repeat_interleave(sizes).to(ground_truth.device)
        # A seed from torch's own generator: what was seeded for the whole program decides here as well.
        generator = torch.Generator().manual_seed(int(torch.randint(1 << 62, ())))
        points, labels = self.sampler.first(ground_truth, keypoints, generator)
        counts = (labels != -1).sum(dim=1)
        starts, begun = self._begun(people) if self._starts else (None, torch.zeros_like(counts, dtype=torch.bool))
        people_a_process = mean_people(len(ground_truth), ground_truth.device)
        losses: dict[str, Tensor] = defaultdict(lambda: ground_truth.new_zeros((), dtype=torch.float32))
        # A padding point is a token to SAM and changes its answer, so those who need it are decoded by themselves.
        # Nor is a mask that is not there the same as an empty one.
        for count, with_start in sorted(set(zip(counts.tolist(), begun.tolist(), strict=True))):
            rows = ((counts == count) & (begun == with_start)).nonzero()[:, 0]
            predictions = self._predictions(
                [level[owners[rows]] for level in features],
                ground_truth[rows],
                keypoints[rows],
                (points[rows, :count], labels[rows, :count]),
                None if starts is None or not with_start else starts[rows],
                generator,
            )
            for name, loss in self.loss(list(predictions), ground_truth[rows], people_a_process).items():
                losses[name] = losses[name] + loss
        return dict(losses)

    def _predictions(
        self,
        features: Sequence[Tensor],
        ground_truth: Tensor,
        keypoints: Keypoints,
        prompts: tuple[Tensor, Tensor],
        previous: Tensor | None,
        generator: torch.Generator,
    ) -> Iterator[Prediction]:
        """Yield the first answer, which may correct a ``previous`` mask, and the one after each correction."""
        points, labels = prompts
        for number in range(1 + self.sampler.corrections):
            if number:
                assert previous is not None
                with torch.no_grad():
                    full = F.interpolate(
                        previous[:, None], ground_truth.shape[1:], mode="bilinear", align_corners=False
                    )
                    added = self.sampler.correct(ground_truth, full[:, 0] > 0, keypoints, generator)
                points, labels = torch.cat((points, added[0]), dim=1), torch.cat((labels, added[1]), dim=1)
            ambiguous = points.shape[1] <= 1 and previous is None
            prediction = self.decode(features, points, labels, previous, multimask=ambiguous)
            if number < self.sampler.corrections:
                previous, _ = best_mask(prediction.logits, prediction.ious)
            yield prediction

    def _begun(self, people: Sequence[PosedMasks]) -> tuple[Tensor, Tensor]:
        """Return the masks to start from as logits (N, h, w), and bool (N,) of whom there is one this time."""
        masks = torch.cat([torch.zeros_like(own.masks) if own.starts is None else own.starts for own in people])
        begun = masks.flatten(1).any(dim=1) & (torch.rand(len(masks)) < self._starts).to(masks.device)
        return mask_prompt(masks, self.sam_prompt_encoder.mask_input_size), begun

    def _embeddings(self, images: Tensor, people: Sequence[PosedMasks]) -> tuple[Tensor, ...]:
        """Encode the images, or look up those that were encoded before."""
        if self._cache_folder is None:
            return self.encode(images)
        if self._cache is None:  # not earlier: only now the weights are those that are trained with
            self._cache = EmbeddingCache(self._cache_folder, self.image_encoder, str(dtype_of(self._number_format())))
        keys = [own.image_key for own in people]
        if None in keys:
            raise UserError("cache: augmented images are never the same again; train with augment=None, or no cache")
        known = [self._cache.read(str(key)) for key in keys]
        fresh = [row for row, embedding in enumerate(known) if embedding is None]
        if fresh:
            levels = self.encode(images[fresh])
            for place, row in enumerate(fresh):
                # Rounded like what is read from the disk, so that the cache's state changes nothing.
                known[row] = tuple(level[place].half() for level in levels)
                self._cache.write(str(keys[row]), known[row] or ())
        device = images.device
        rows = [[level.to(device) for level in embedding] for embedding in known if embedding is not None]
        return tuple(torch.stack(level).float() for level in zip(*rows, strict=True))

    @property
    def _network(self) -> SAM2Network:
        """The network in the number format of its device: one and the same until that changes."""
        number_format = dtype_of(self._number_format())
        if self._in_use is None or self._in_use.dtype != number_format:
            self._in_use = SAM2Network(self, number_format)
        return self._in_use

    def _number_format(self) -> str:
        if self._dtype != "auto":
            return self._dtype
        device = self.no_mem_embed.device
        return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def _forget(network: nn.Module, parts: Sequence[str], model: str) -> None:
    if not parts:
        return
    known = dict(network.named_children())
    unknown = build_sam2(model, RANDOM)
    for part in parts:
        if part not in known:
            raise UserError(f"fresh: the network has no {part!r}; {choices(part, known)}")
        known[part].load_state_dict(getattr(unknown, part).state_dict())


class PosePreprocessor(BaseDataPreprocessor):  # type: ignore[misc,unused-ignore]
    """Brings samples to the network's device, and pixels to the range that SAM 2 knows.

    Args:
        side: of the network's square input, in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self._side = side

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Stack and normalise uint8 images of training; what is validated on stays as it is, see ``PosedImages``."""
        if not training:
            return data
        images = torch.stack(data["inputs"]).to(self.device)
        if images.shape[2:] != (self._side, self._side):
            raise UserError(
                f"size: the network takes {self._side}x{self._side} pixels, got {images.shape[3]}x{images.shape[2]}; "
                f"set size={self._side} in the config of the training's dataset"
            )
        return {
            "inputs": normalize(images.float() / 255, PIXEL_MEAN, PIXEL_STD),
            "data_samples": [people.to(self.device) for people in data["data_samples"]],
        }
