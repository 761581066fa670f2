"""Networks of Hugging Face's transformers, built and loaded; knows no image, no stage and no loop."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.config import ConfigSection
from bmp.errors import MissingExtraError, UserError
from bmp.models.sam2_names import config_for, is_sam2, to_transformers

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]."""


def build_transformers(
    stage: str, checkpoint: str, config: str | ConfigSection | None, architectures: Sequence[str]
) -> Any:
    """Return a network on the CPU, in evaluation mode and without gradients.

    Args:
        stage: its name in messages.
        checkpoint: a name or path of a file in safetensors, with its ``config.json`` beside it, or the folder of both;
            or "random" for weights made up from a fixed seed, or a file of SAM 2.1 under sam2's names.
        config: in place of the ``config.json``: a dict with "model_type" and "architectures", the path of such a file,
            or, for files under sam2's names, the name of a model of sam2, such as "sam2.1_hiera_b+".
        architectures: the classes of transformers that the stage can read.

    Raises:
        ImportError: where transformers is not installed.
        UserError: for a config of another kind of network, and weights that cannot be had or do not fit.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(stage, "transformers", "modern", error) from error

    if checkpoint != RANDOM and Path(checkpoint).is_dir():
        checkpoint = str(Path(checkpoint) / "model.safetensors")
    settings = _settings(stage, checkpoint, config)
    named = settings.get("architectures") or ["none"]
    # Files of SAM 2 hold what it takes to follow objects through videos, too.
    name = str(named[0]).replace("VideoModel", "Model")
    if name not in architectures:
        raise UserError(
            f"{stage}: expected a network of {', '.join(architectures)}, got {name}; give such a checkpoint"
        )
    if not hasattr(transformers, name):
        raise UserError(f"{stage}: transformers {transformers.__version__} has no {name}; install a later version")
    kind = getattr(transformers, name)
    try:
        options = {key: value for key, value in settings.items() if key != "model_type"}
        built = kind.config_class(**options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = kind(built) if checkpoint == RANDOM or "sam2" in settings else None
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{stage}: transformers cannot build {name}: {reason}; mend the config") from error
    if network is None:
        network = _pretrained(stage, kind, built, resolve(checkpoint))
    elif checkpoint != RANDOM:
        file = resolve(checkpoint)
        load_strictly(network, to_transformers(load_state_dict(file)), file=file)
    return network.eval().requires_grad_(False)


def _settings(stage: str, checkpoint: str, config: str | ConfigSection | None) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return dict(config)
    if config is not None and (known := config_for(config)) is not None:
        return known
    if checkpoint == RANDOM and config is None:
        raise UserError(
            f"{stage}: made-up weights need a config; give config=dict(model_type=..., architectures=[...])"
        )
    beside = f"{checkpoint.rpartition('/')[0]}/config.json" if "/" in checkpoint else "./config.json"
    file = resolve(config or beside)
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not a readable config of transformers ({error}); fetch it anew") from error
    if not isinstance(settings, dict):
        raise UserError(f"{file}: expected a dict of settings, got {type(settings).__name__}; fetch it anew")
    return settings


def _pretrained(stage: str, kind: Any, config: Any, file: Path) -> Any:
    """Let transformers load a file, which renames what older versions called otherwise."""
    state = load_state_dict(file)  # refuses what is no plain file of finite weights
    if is_sam2(state):
        raise UserError(f"{file}: its names are those of sam2; say which model it is, config='sam2.1_hiera_b+'")
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(40)  # errors only: what it would warn of is an error below
    try:
        network, report = kind.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{file}: does not fit {kind.__name__}: {reason}; give the weights of this model") from error
    finally:
        logging.set_verbosity(level)
    missing = sorted(report["missing_keys"])
    if missing or report["mismatched_keys"]:
        blamed = [*missing, *(str(each[0]) for each in report["mismatched_keys"])]
        raise UserError(
            f"{file}: does not fit {kind.__name__}, {len(blamed)} missing or misshapen: {', '.join(blamed[:5])}; "
            f"give the weights that belong to the config of {stage}"
        )
    return network


LEVELS = ("stride4", "stride8", "stride16")
"""What ``ImageEmbeddings`` returns."""


class Heatmaps(nn.Module):
    """A pose network as a function of tensors.

    Args:
        network: a ViTPose of transformers.
        expert: of ViTPose+ the data set whose expert is asked, for all rows; None for ViTPose.
    """

    def __init__(self, network: nn.Module, expert: int | None = None) -> None:
        super().__init__()
        self.network = network
        self.expert = expert

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return of float32 (B, 3, H, W) the heatmaps (B, K, h, w)."""
        options = {}
        if self.expert is not None:
            options["dataset_index"] = pixels.new_full((pixels.shape[0],), self.expert, dtype=torch.long)
        output: Any = self.network(pixel_values=pixels, **options)
        return (output.heatmaps,)


class ImageEmbeddings(nn.Module):
    """The image encoder of SAM 2 or 3's tracker as a function of tensors.

    Args:
        network: of transformers.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode float32 (B, 3, S, S): levels of strides 4, 8 and 16."""
        return tuple(self.network.get_image_embeddings(pixels))


class PromptedMasks(nn.Module):
    """Prompt encoder and mask decoder of such a network as a function of tensors.

    Args:
        network: of transformers.
        multimask: three masks instead of one.
    """

    def __init__(self, network: Any, multimask: bool) -> None:
        super().__init__()
        self.network = network
        self.multimask = multimask

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Answer the prompts of N people.

        Args:
            *inputs: levels of strides 4, 8 and 16, a row a person; points float32 (N, P, 2) and labels int64 (N, P) in
                pixels of the network's input; and, to correct an answer, its logits float32 (N, h, w).

        Returns:
            logits (N, M, h, w) and predicted IoU (N, M).
        """
        *levels, points, labels = inputs[:5]
        answer: Any = self.network(
            image_embeddings=levels,
            # People stand where images do: a mask prompt goes with an image in transformers.
            input_points=points[:, None],
            input_labels=labels[:, None],
            input_masks=inputs[5][:, None] if len(inputs) > 5 else None,
            multimask_output=self.multimask,
        )
        return answer.pred_masks[:, 0], answer.iou_scores[:, 0]


class Portable:
    """Mixed into stages whose ``_network`` is of transformers, so that they can be pickled and copied once they ran.

    At its first run transformers puts functions into a network that cannot be pickled; it does so again where they are
    missing.
    """

    _network: Any

    def __getstate__(self) -> dict[str, Any]:
        """Take these functions out."""
        for module in self._network.modules():
            hooks = module._forward_hooks
            for key in [key for key, hook in hooks.items() if "<locals>" in getattr(hook, "__qualname__", "")]:
                del hooks[key]
            vars(module).pop("_output_capturing_hooks_installed", None)
        return vars(self)
