"""Times the networks of bmp_v2 beside others that do the same, forward only, with made-up weights, on one thread.

    python benchmarks/peers.py --output benchmarks/results/cpu_peers.json

transformers' and ultralytics' rows are there where these packages are. ultralytics is AGPL-3.0 and no dependency of
anything here: install it elsewhere and name the folder in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from common import as_command, warn_of_load, write
from torch import Tensor, nn

from bmp.evaluation.timing import machine

Forward = Callable[[], object]
_CROPS = 8  # four people and their mirror images


Peer = tuple[str, str, nn.Module, Forward]
"""Which of ``bmp.loop.STAGES`` a network could do the work of, its name, the network, and a call of it."""


def ours() -> Iterator[Peer]:
    """Yield those of bmp_v2."""
    from bmp.config import load_config
    from bmp.detectors.mmdet import MMDetDetector
    from bmp.models.sam2 import ImageFeatures, build_sam2, prepare_encoder
    from bmp.poses.mmpose import MMPoseEstimator

    pipeline = load_config("bmp_v2.py").pipeline
    detector = MMDetDetector(pipeline.detector.config, "random")
    dense = detector._graph.module
    yield "detector", "RTMDet-Ins-L, 640 (ours)", dense, _call(dense, torch.rand(1, 3, 640, 640))
    pose = MMPoseEstimator(pipeline.pose.config, "random")
    crops = torch.rand(_CROPS, 3, pose._height, pose._width)
    yield "pose", f"PMPose-b, {_CROPS} crops (ours)", pose._graph.module, _call(pose._graph.module, crops)
    network = build_sam2("sam2.1_hiera_b+", "random")
    prepare_encoder(network.image_encoder, channels_last=False, compiled=False)
    features = ImageFeatures(network)
    square = torch.rand(1, 3, 1024, 1024)
    yield "segmenter: encode", "SAM 2.1 b+ encoder, 1024 (ours, sam2)", features.encoder, _call(features, square)


def transformers() -> Iterator[Peer]:
    """Yield those of transformers in the same sizes."""
    hf: Any = import_module("transformers")
    detector = hf.RTDetrV2ForObjectDetection(hf.RTDetrV2Config()).eval()
    yield "detector", "RT-DETR v2 r50, 640 (transformers)", detector, _call(detector, torch.rand(1, 3, 640, 640))
    backbone = hf.VitPoseBackboneConfig(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, out_indices=[12], image_size=[256, 192]
    )
    pose = hf.VitPoseForPoseEstimation(
        hf.VitPoseConfig(backbone_config=backbone, num_labels=17, use_simple_decoder=False)
    ).eval()
    yield "pose", f"ViTPose-b, {_CROPS} crops (transformers)", pose, _call(pose, torch.rand(_CROPS, 3, 256, 192))
    trunk = hf.Sam2HieraDetConfig(
        hidden_size=112,
        num_attention_heads=2,
        blocks_per_stage=[2, 3, 16, 3],
        embed_dim_per_stage=[112, 224, 448, 896],
        num_attention_heads_per_stage=[2, 4, 8, 16],
        global_attention_blocks=[12, 16, 20],
        window_positional_embedding_background_size=[14, 14],
    )
    vision = hf.Sam2VisionConfig(backbone_config=trunk, backbone_channel_list=[896, 448, 224, 112])
    encoder = hf.Sam2VisionModel(vision).eval()
    square = torch.rand(1, 3, 1024, 1024)
    yield "segmenter: encode", "SAM 2.1 b+ encoder, 1024 (transformers)", encoder, _call(encoder, square)


def ultralytics() -> Iterator[Peer]:
    """Yield ultralytics' large models, which join boxes and masks, or boxes and poses."""
    package = import_module("ultralytics")
    for name, found in (("yolo11l-seg", "boxes and masks"), ("yolo11l-pose", "boxes and poses")):
        network: Any = package.YOLO(f"{name}.yaml").model.eval()
        yield "detector", f"{name}, 640, {found} (ultralytics)", network, _call(network, torch.rand(1, 3, 640, 640))


def _call(network: nn.Module, pixels: Tensor) -> Forward:
    return lambda: network(pixels)


def main() -> None:
    """Time each network once after a first call."""
    options = _options()
    torch.set_num_threads(options.threads)
    load = warn_of_load()
    rows = []
    sources = [ours, *(each for each in (transformers, ultralytics) if find_spec(each.__name__))]
    for source in sources:
        for part, name, network, forward in source():
            with torch.inference_mode():
                forward()
                seconds = []
                for _ in range(options.repeats):
                    started = time.process_time()
                    forward()
                    seconds.append(time.process_time() - started)
            parameters = sum(each.numel() for each in network.parameters()) / 1e6
            print(f"{name}: {min(seconds):.2f} s of CPU, {parameters:.1f} M parameters")
            rows.append({"part": part, "network": name, "seconds": min(seconds), "parameters": parameters})
            if options.output:
                write(
                    options.output,
                    {
                        "settings": vars(options) | {"clock": "processors"},
                        "machine": machine("cpu") | {"load": load},
                        "rows": rows,
                    },
                )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2, help="the shortest counts: CPU seconds have no other noise")
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
