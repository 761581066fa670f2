"""The command that prepares CLIP for a parser: visual weights and the embeddings of labels' names in one file.

    python -m bmp.models.schnet.prepare --clip FILE.safetensors --output clip.safetensors

Afterwards no text encoder is needed. Knows no image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bmp.checkpoints.loading import load_strictly
from bmp.checkpoints.sources import resolve
from bmp.io.atomic import replacing_path
from bmp.label_sets.part_sets import part_set
from bmp.models.schnet.network import load_weights
from bmp.models.schnet.semantics import TEMPLATES, CLIPSemantics, open_clip_package


def prepared(model: str, weights: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of ``CLIPSemantics``, float16, from a safetensors file of a whole CLIP of open_clip.

    The embedding of a label is the mean over ``TEMPLATES`` of the normalised embeddings of its name, normalised.

    Raises:
        UserError: for files of another kind and weights that do not fit the model.
        ImportError: where open_clip is not installed.
    """
    open_clip = open_clip_package()
    semantics = CLIPSemantics(len(names), model)  # refuses models that are no vision transformers
    whole: Any = open_clip.CLIP(**_arguments(open_clip.get_model_config(model))).eval()
    load_strictly(whole, load_weights(weights), file=weights)
    tokenizer = open_clip.get_tokenizer(model)
    with torch.no_grad():
        text = torch.stack(
            [
                whole.encode_text(tokenizer([template.format(name) for template in TEMPLATES]), normalize=True).mean(0)
                for name in names
            ]
        )
    semantics.visual.load_state_dict(whole.visual.state_dict())
    semantics.text = F.normalize(text, dim=1)
    return {name: tensor.half().contiguous() for name, tensor in semantics.state_dict().items()}


def _arguments(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key in ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    from bmp.console import Parser, run_command

    parser = Parser("python -m bmp.models.schnet.prepare", description="Prepare CLIP's weights for a parser.")
    parser.add_argument("--clip", required=True, metavar="FILE", help="weights of a CLIP of open_clip, .safetensors")
    parser.add_argument("--model", default="ViT-B-16", help="which one it is (default: %(default)s)")
    parser.add_argument("--labels", default="cihp", help="label set whose names are embedded (default: %(default)s)")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="safetensors file to write")
    return run_command(parser, _prepare, arguments, interrupted="nothing was written")


def _prepare(options: argparse.Namespace) -> int:
    from safetensors.torch import save_file

    tensors = prepared(options.model, resolve(options.clip), part_set(options.labels).names)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with replacing_path(options.output) as unfinished:
        save_file(tensors, unfinished, metadata={"format": "pt", "model": options.model, "labels": options.labels})
    print(f"{len(tensors)} tensors: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
