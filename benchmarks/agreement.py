"""Fits the weights of ``bmp.ops.agreement`` to drawn crowds, and draws what they are worth on others.

    python benchmarks/agreement.py --output output/agreement --picture docs/images/agreement.png

The people that the nano preset finds in scenes of SynthCrowd's splits val and train are what is fitted to; the curves
are of the split test. A label's quality is the mean of the mask's IoU and the pose's OKS with the person whom it
resembles most, 0 for whoever is left over.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from common import as_command
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from bmp.build import load
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.io.annotations import labelled_poses
from bmp.io.segmentations import to_mask
from bmp.ops.agreement import WEIGHTS, combined, evidence
from bmp.ops.masks import iou
from bmp.ops.oks import oks

Array = NDArray[np.float64]
Table = dict[str, Array]
_EVIDENCE = ("own", "others", "box", "skeleton", "mask_score", "keypoints", "visibility")
_TRUTH = ("iou", "oks", "score")
_LEAST = 0.02  # weights below this are none


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="nano.py")
    parser.add_argument("--counts", type=int, nargs=3, default=(400, 300, 300), help="scenes of val, train and test")
    parser.add_argument("--output", type=Path, default=Path("output/agreement"), help="keeps what was found")
    parser.add_argument("--picture", type=Path, help="where the curves go")
    options = parser.parse_args()
    val, train, test = (
        collected(options.config, split, count, options.output / f"{split}.npz")
        for split, count in zip(("val", "train", "test"), options.counts, strict=True)
    )
    fitted_to = {name: np.concatenate((val[name], train[name])) for name in val}
    print(f"fitted to {len(fitted_to['iou'])} people, measured on {len(test['iou'])}")
    quality = (test["iou"] + test["oks"]) / 2
    curves = {"detector's score": test["score"]}
    for masks in (False, True):
        if masks and "stability" not in test:
            continue
        names = (*_EVIDENCE, "stability") if masks else _EVIDENCE
        weights = fit(fitted_to, names)
        print(f"{'with' if masks else 'without'} masks of the detector: {weights}")
        curves[f"agreement, fitted now, {'with' if masks else 'without'} detector's masks"] = predicted(test, weights)
    now = predicted(test, WEIGHTS["stability" in test])
    curves["agreement"] = now
    for name, values in curves.items():
        print(f"{name}: mean risk over all coverages {mean_risk(values, quality):.4f}")
    print(f"best order: {mean_risk(quality, quality):.4f}; any order: {1 - quality.mean():.4f}")
    print(f"root mean square of agreement - quality: {np.sqrt(np.mean((now - quality) ** 2)):.3f}")
    for low in np.arange(0, 1, 0.2):
        rows = (now >= low) & (now < low + 0.2)
        if rows.any():
            print(f"agreement {now[rows].mean():.2f}, quality {quality[rows].mean():.2f}, {rows.sum()} people")
    if options.picture:
        draw(options.picture, test, {"detector's score": test["score"], "agreement": now})


def collected(config: str, split: str, count: int, path: Path) -> Table:
    """Return evidence and truth of everybody found in scenes of a split; what is in the file is not made anew."""
    if path.exists():
        return dict(np.load(path))
    model, dataset = load(config), SynthCrowd(split, count)
    sigmas = torch.tensor(model.pose.keypoints.sigmas)
    people = dataset.people()
    columns: dict[str, list[Tensor]] = {}
    for index, image in enumerate(dataset.ground_truth["images"]):
        (result,) = model.run([dataset.load(index)])
        found, rows = result.people, people.get(image["id"], [])
        overlaps = similar = torch.zeros(len(found), len(rows))
        if rows and len(found):
            masks = torch.stack([to_mask(row.get("segmentation"), image["height"], image["width"]) for row in rows])
            overlaps = iou(found.masks.bits, masks)
            poses = labelled_poses(rows)
            areas = torch.tensor([row["area"] for row in rows], dtype=torch.float32)
            similar = oks(poses.keypoints, found.poses.keypoints, areas, sigmas, poses.presence > 0).T
        good_iou, good_oks = matched(overlaps, similar)
        truth = dict(zip(_TRUTH, (good_iou, good_oks, found.detections.scores), strict=True))
        for name, column in {**evidence(found), **truth}.items():
            columns.setdefault(name, []).append(column.cpu())
        if index % 100 == 99:
            print(f"{split}: {index + 1} of {len(dataset)}", flush=True)
    table = {name: torch.cat(parts).double().numpy() for name, parts in columns.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **table)  # type: ignore[arg-type]
    return table


def matched(overlaps: Tensor, similar: Tensor) -> tuple[Tensor, Tensor]:
    """Give each label to the found person who is most like it, the best pairs first; 0 for whoever gets none."""
    left = (overlaps + similar) / 2
    good_iou, good_oks = torch.zeros(len(left)), torch.zeros(len(left))
    while left.numel() and float(left.max()) > 0:
        row, column = divmod(int(left.argmax()), left.shape[1])
        good_iou[row], good_oks[row] = overlaps[row, column], similar[row, column]
        left[row], left[:, column] = -1, -1
    return good_iou, good_oks


def fit(table: Table, names: tuple[str, ...]) -> dict[str, float]:
    """Return the weights, none below 0, of a logistic model of the quality; "" is the constant."""
    columns = np.stack([*(table[name] for name in names), np.ones(len(table["iou"]))], axis=1)
    quality = (table["iou"] + table["oks"]) / 2

    def loss(weights: Array) -> tuple[float, Array]:
        logit = columns @ weights
        value = float(np.mean(np.logaddexp(0, logit) - quality * logit))
        slope: Array = columns.T @ (1 / (1 + np.exp(-logit)) - quality) / len(quality)
        return value, slope

    bounds = [(0.0, None)] * len(names) + [(None, None)]
    weights = minimize(loss, np.zeros(len(bounds)), jac=True, method="L-BFGS-B", bounds=bounds).x
    kept = {"": round(float(weights[-1]), 2)}
    return kept | {n: round(float(w), 2) for n, w in zip(names, weights[:-1], strict=True) if w >= _LEAST}


def predicted(table: Table, weights: dict[str, float]) -> Array:
    """Return the agreement of everybody."""
    values: Array = combined({name: torch.from_numpy(table[name]) for name in weights if name}, weights).numpy()
    return values


def risks(order: Array, quality: Array) -> Array:
    """Return the mean loss of quality of the first 1, 2, ... labels by descending ``order``."""
    loss = 1 - quality[np.argsort(-order, kind="stable")]
    cumulated: Array = np.cumsum(loss) / np.arange(1, len(loss) + 1)
    return cumulated


def mean_risk(order: Array, quality: Array) -> float:
    """Return the mean of ``risks``, the area under the curve of risk over coverage."""
    return float(risks(order, quality).mean())


def draw(path: Path, table: Table, orders: dict[str, Array]) -> None:
    """Draw the curves for masks, for poses and for both."""
    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, layout="constrained")
    qualities = {"mask (IoU)": table["iou"], "pose (OKS)": table["oks"], "both": (table["iou"] + table["oks"]) / 2}
    for panel, (title, quality) in zip(panels, qualities.items(), strict=True):
        coverage = np.arange(1, len(quality) + 1) / len(quality)
        for name, order in {**orders, "best order": quality}.items():
            dashes: dict[str, Any] = {"linestyle": ":", "color": "grey"} if name == "best order" else {}
            panel.plot(coverage, risks(order, quality), label=name, **dashes)
        panel.set(title=title, xlabel="share of labels kept", xlim=(0, 1), ylim=(0, 0.65))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("1 - quality, mean of those kept")
    panels[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(as_command(main))
