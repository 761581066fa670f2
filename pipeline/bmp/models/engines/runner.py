"""Finds people in a photo with the files that ``bmp export`` wrote: one round of detector, poses and masks.

    python runner.py photo.jpg [--output people.json]

Needs onnxruntime, numpy and OpenCV, and nothing else: this file goes beside the networks, and shows what has to be
done around them, for whoever writes it in another language. All numbers come from manifest.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]
_FORMAT = 1  # of the manifest


@dataclass
class People:
    """N people, in pixels of the photo.

    boxes: (N, 4), xyxy. scores: (N,). masks: bool (N, H, W). keypoints: (N, K, 2). keypoint_scores, visibility,
    presence: (N, K). mask_scores: predicted IoU (N,). prompts: which keypoints each mask was prompted with, (N, P).
    """

    boxes: Array
    scores: Array
    masks: Array
    keypoints: Array
    keypoint_scores: Array
    visibility: Array
    presence: Array
    mask_scores: Array
    prompts: Array


class Model:
    """The networks of a folder that ``bmp export`` wrote.

    Args:
        folder: with manifest.json.
        threads: of ONNX Runtime; 0 for as many as there are cores.
        providers: of ONNX Runtime.
    """

    def __init__(self, folder: Path, threads: int = 0, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> None:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            raise ValueError(f"manifest.json is of format {manifest['format']}, this runner reads {_FORMAT}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._stages: dict[str, Any] = manifest["stages"]
        self._sessions = {
            graph["file"]: onnxruntime.InferenceSession(str(folder / graph["file"]), options, providers=list(providers))
            for stage in self._stages.values()
            for graph in stage["graphs"].values()
        }

    def __call__(self, image: Array) -> People:
        """Find the people in uint8 (H, W, 3), in the order of OpenCV: blue, green, red."""
        boxes, scores, masks = self.detect(image)
        keypoints, numbers = self.estimate(image, boxes, masks)
        outlines, ious, prompts = self.segment(image, masks, keypoints, numbers)
        visibility, presence = numbers["visibility"], numbers["presence"]
        return People(boxes, scores, outlines, keypoints, numbers["scores"], visibility, presence, ious, prompts)

    def _run(self, stage: str, graph: str, **inputs: Array) -> list[Array]:
        session = self._sessions[self._stages[stage]["graphs"][graph]["file"]]
        return session.run(None, inputs)  # type: ignore[no-any-return,unused-ignore]

    def detect(self, image: Array) -> tuple[Array, Array, Array]:
        """Return boxes (N, 4), scores (N,) and masks (N, H, W) of people, best first."""
        settings = self._stages["detector"]["settings"]
        height, width = image.shape[:2]
        canvas, (rows, columns) = _letterbox(image, settings)
        colours = canvas if settings["order"] == "bgr" else canvas[..., ::-1]
        pixels = ((colours - _row(settings["mean"])) / _row(settings["std"])).transpose(2, 0, 1)[None]
        outputs = self._run("detector", "network", pixels=pixels.astype(np.float32))
        strides = settings["strides"]
        levels = len(strides)
        classes, distances, kernels = (outputs[i * levels : (i + 1) * levels] for i in range(3))
        features = outputs[-1][0]
        found = _sigmoid(np.concatenate([each[0, settings["label"]].ravel() for each in classes]))
        priors = np.concatenate([_grid(each.shape[2], each.shape[3], stride) for each, stride in zip(classes, strides)])  # noqa: B905
        likely = np.flatnonzero(found > settings["score_threshold"])
        sides, kernel_rows = (
            np.concatenate([each[0].reshape(each.shape[1], -1).T for each in part])[likely]
            for part in (distances, kernels)
        )
        priors, found = priors[likely], found[likely]
        boxes = np.concatenate((priors[:, :2] - sides[:, :2], priors[:, :2] + sides[:, 2:]), 1)
        boxes = boxes.clip(0, [pixels.shape[3], pixels.shape[2]] * 2)
        kept = _nms(boxes, found, settings["network_nms_iou"])[: settings["most"]]
        scale = np.array([columns / width, rows / height] * 2, np.float32)
        inside = (boxes[kept] / scale).clip(0, [width, height] * 2).astype(np.float32)
        kept, inside = (each[(inside[:, 2:] > inside[:, :2]).all(1)] for each in (kept, inside))
        best = _nms(inside, found[kept], settings["nms_iou"])
        kept, inside = kept[best], inside[best]
        masks = np.zeros((len(kept), height, width), bool)
        for mask, row in zip(masks, kept):  # noqa: B905
            logits = _dynamic_mask(features, kernel_rows[row], priors[row], settings)
            stride = strides[0]
            logits = cv2.resize(logits, None, fx=stride, fy=stride, interpolation=cv2.INTER_LINEAR)[:rows, :columns]
            mask[:] = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR) > settings["mask_threshold"]
        return inside, found[kept].astype(np.float32), masks

    def estimate(self, image: Array, boxes: Array, masks: Array) -> tuple[Array, dict[str, Array]]:
        """Return keypoints (N, K, 2), and scores, visibility, presence and expected OKS, (N, K) each."""
        settings = self._stages["pose"]["settings"]
        width, height = settings["width"], settings["height"]
        count = len(settings["keypoints"])
        names = ("scores", "visibility", "presence", "expected_oks")
        if not len(boxes):
            return np.zeros((0, count, 2), np.float32), {name: np.zeros((0, count), np.float32) for name in names}
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        sides = (boxes[:, 2:] - boxes[:, :2]) * settings["padding"]
        aspect = width / height
        sizes = np.maximum(sides, np.stack((sides[:, 1] * aspect, sides[:, 0] / aspect), 1)).clip(min=1)
        crops = np.stack(
            [_crop(image[..., ::-1], *person, settings) for person in zip(centres, sizes, boxes, masks)]  # noqa: B905
        )
        colours = crops if settings["order"] == "rgb" else crops[..., ::-1]
        inputs = ((colours - _row(settings["mean"])) / _row(settings["std"])).transpose(0, 3, 1, 2).astype(np.float32)
        outputs = self._run("pose", "network", crops=np.ascontiguousarray(inputs))
        maps, *numbers = _maps(outputs, settings)
        if settings["flip_test"]:
            outputs = self._run("pose", "network", crops=np.ascontiguousarray(inputs[..., ::-1]))
            mirrored = [each[:, settings["mirrored"]] for each in _maps(outputs, settings)]
            mirrored[0] = mirrored[0][..., ::-1]
            maps, *numbers = ((a[:, settings["chosen"]] + b) / 2 for a, b in zip((maps, *numbers), mirrored))  # noqa: B905
        else:
            maps, *numbers = (each[:, settings["chosen"]] for each in (maps, *numbers))
        decode = {"dark_udp": _dark_udp, "expected_oks": _expected_oks}[settings["decoder"]]
        cells, heights = decode(maps, settings)
        shares = cells / np.array([maps.shape[3] - 1, maps.shape[2] - 1], np.float32) - 0.5
        keypoints = centres[:, None] + shares * sizes[:, None]
        told = dict(zip(("presence", "visibility", "expected_oks"), numbers))  # noqa: B905
        scores = told.get("expected_oks", heights) if settings["scores_from"] == "expected_oks" else heights
        told = {"visibility": scores, "presence": scores, "expected_oks": scores, **told, "scores": scores}
        for name in settings["from_score"]:
            told[name] = scores
        return keypoints.astype(np.float32), {name: told[name].clip(0, 1) for name in names}

    def segment(
        self, image: Array, masks: Array, keypoints: Array, numbers: dict[str, Array]
    ) -> tuple[Array, Array, Array]:
        """Return masks (N, H, W), predicted IoU (N,), and the keypoints that were prompts (N, P), -1 for none."""
        settings = self._stages["segmenter"]["settings"]
        height, width = image.shape[:2]
        ranked = numbers[settings["signal"]].copy()
        ranked[:, settings["excluded"]] = -1
        order = np.argsort(-ranked, axis=1, kind="stable")[:, : settings["count"]]
        chosen = np.where(np.take_along_axis(ranked, order, 1) >= settings["threshold"], order, -1)
        outlines, ious = np.zeros_like(masks), np.zeros(len(masks), np.float32)
        if not len(masks):
            return outlines, ious, chosen
        side = settings["side"]
        pixels = _antialiased(image[..., ::-1].astype(np.float32) / 255, side, side)
        pixels = ((pixels - _row(settings["mean"])) / _row(settings["std"])).transpose(2, 0, 1)[None]
        features = self._run("segmenter", "encoder", pixels=pixels.astype(np.float32))
        shape = tuple(settings["logit_size"])
        for row, indices in enumerate(chosen):
            own = indices[indices >= 0]
            corrects = settings["mask_prompt"] is not None and bool(masks[row].any())
            if not len(own):
                continue
            previous = np.zeros((1, *shape), np.float32)
            if corrects:
                certain = settings["mask_prompt"]
                previous[0] = (2 * _antialiased(masks[row].astype(np.float32), *shape) - 1) * certain
            points = keypoints[row, own][None] / np.array([width, height], np.float32) * side
            logits, predicted, _ = self._run(
                "segmenter",
                "decoder",
                **dict(zip(("stride4", "stride8", "stride16"), features)),  # noqa: B905
                points=points.astype(np.float32),
                labels=np.ones((1, len(own)), np.int64),
                previous=previous,
                corrects=np.array([corrects], np.float32),
            )
            clean = _clean(logits[0, 0], settings["hole_area"], settings["speck_area"])
            outlines[row] = cv2.resize(clean, (width, height), interpolation=cv2.INTER_LINEAR) > 0
            ious[row] = predicted[0, 0].clip(0, 1)
        return outlines, ious, chosen


def _row(values: list[float]) -> Array:
    return np.array(values, np.float32)


def _sigmoid(values: Array) -> Array:
    return (1 / (1 + np.exp(-values))).astype(np.float32)  # type: ignore[no-any-return,unused-ignore]


def _letterbox(image: Array, settings: dict[str, Any]) -> tuple[Array, tuple[int, int]]:
    """Return the padded input, float32 (h, w, 3), and the height and width of what shows the image."""
    height, width = image.shape[:2]
    scale = settings["scale"]
    rows, columns = scale[1], scale[0]
    if settings["keep_ratio"]:
        factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
        rows, columns = (max(1, int(length * factor + 0.5)) for length in (height, width))
    resized = cv2.resize(image.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR).round()
    canvas = np.empty((settings["height"], settings["width"], 3), np.float32)
    canvas[:] = settings["padding"]
    canvas[:rows, :columns] = resized
    return canvas, (rows, columns)


def _grid(height: int, width: int, stride: int) -> Array:
    """Return x, y and stride of the cells of a level, (height * width, 3), row by row."""
    ys, xs = np.mgrid[:height, :width].astype(np.float32) * stride
    return np.stack((xs.ravel(), ys.ravel(), np.full(height * width, stride, np.float32)), 1)


def _nms(boxes: Array, scores: Array, limit: float) -> Array:
    """Return the rows that stay, best first: none overlaps a better one by more than ``limit`` of IoU."""
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low, high = np.maximum(boxes[best, :2], boxes[order, :2]), np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = (high - low).clip(min=0).prod(1)
        joined = areas[best] + areas[order] - shared
        order = order[~(shared > limit * joined)]
    return np.array(kept, np.int64)


def _dynamic_mask(features: Array, kernel: Array, prior: Array, settings: dict[str, Any]) -> Array:
    """Run the three small layers that a detection brings along over the features of all masks: logits (h, w)."""
    channels, height, width = features.shape
    cells = _grid(height, width, settings["strides"][0])
    across = (prior[:2] - cells[:, :2]) / (prior[2] * 8)
    values = np.concatenate((across.T, features.reshape(channels, -1))).astype(np.float32)
    weights, biases = settings["kernel_weights"], settings["kernel_biases"]
    parts = np.split(kernel, np.cumsum([*weights, *biases])[:-1])
    for layer, bias in enumerate(parts[len(weights) :]):
        values = parts[layer].reshape(len(bias), -1) @ values + bias[:, None]
        if layer + 1 < len(weights):
            values = values.clip(min=0)
    return np.ascontiguousarray(values.reshape(height, width), np.float32)


def _crop(image: Array, centre: Array, size: Array, box: Array, mask: Array, settings: dict[str, Any]) -> Array:
    """Cut a person out of (H, W, 3), bilinear, and darken what lies outside of the mask; uint8 values as float32."""
    lengths = (settings["width"], settings["height"])
    at = []
    for axis, length in enumerate(lengths):
        step = size[axis] / (length - 1 if settings["unbiased"] else length)
        at.append((centre[axis] - 0.5 * size[axis] + step * np.arange(length, dtype=np.float32)).astype(np.float32))
    taps, inside, shares = [], [], []
    for samples, limit in zip(at, (image.shape[1], image.shape[0])):  # noqa: B905
        first = np.floor(samples)
        both = np.stack((first, first + 1), -1).astype(np.int64)
        inside.append(((both >= 0) & (both < limit)).ravel())
        taps.append(both.clip(0, limit - 1).ravel())
        shares.append((samples - first).astype(np.float32))
    columns, rows = taps
    values = image[rows[:, None], columns].astype(np.float32)
    if settings["alpha"] > 0:
        shown = mask[rows[:, None], columns] if mask.any() else _in_box(box, rows, columns, image.shape, settings)
        values = np.where(shown[..., None], values, (values * np.float32(1 - settings["alpha"])).round())
    values *= (inside[1][:, None] & inside[0])[..., None]
    values = values.reshape(lengths[1], 2, lengths[0], 2, 3)
    across = values[..., 0, :] + shares[0][:, None] * (values[..., 1, :] - values[..., 0, :])
    blended: Array = across[:, 0] + shares[1][:, None, None] * (across[:, 1] - across[:, 0])
    return blended.round()


def _in_box(box: Array, rows: Array, columns: Array, shape: tuple[int, ...], settings: dict[str, Any]) -> Array:
    """Tell which crossings a box touches, where it stands in for a mask; all of them where it touches none."""
    first, end = np.floor(box[:2]).clip(min=0), np.minimum(np.ceil(box[2:]), (shape[1], shape[0]))
    if settings["without_mask"] != "box" or (first >= end).any():
        return np.ones((len(rows), len(columns)), bool)
    along_y, along_x = (rows >= first[1]) & (rows < end[1]), (columns >= first[0]) & (columns < end[0])
    touched: Array = along_y[:, None] & along_x
    return touched


def _maps(outputs: list[Array], settings: dict[str, Any]) -> list[Array]:
    """Turn scores of cells into probabilities, where the network gives scores; the other outputs stay."""
    if settings["normalize"] is None:
        return [outputs[0].clip(0, 1) if len(outputs) > 1 else outputs[0], *outputs[1:]]
    maps = outputs[0]
    flat = maps.reshape(*maps.shape[:2], -1)
    return [(_sparsemax(flat).reshape(maps.shape) * settings["normalize"]).clip(0, 1), *outputs[1:]]


def _sparsemax(scores: Array) -> Array:
    """Project the rows of (..., C) onto the simplex: probabilities, most of them 0."""
    scores = scores - scores.max(-1, keepdims=True)
    ranked = -np.sort(-scores, axis=-1).astype(np.float64)
    sums = ranked.cumsum(-1) - 1
    counts = np.arange(1, scores.shape[-1] + 1)
    size = (ranked * counts > sums).sum(-1, keepdims=True)
    threshold = np.take_along_axis(sums, size - 1, -1) / size
    return (scores - threshold).clip(min=0).astype(np.float32)  # type: ignore[no-any-return,unused-ignore]


def _peaks(maps: Array) -> tuple[Array, Array]:
    """Return x and y of the highest cells, (..., 2), and their values."""
    flat = maps.reshape(*maps.shape[:-2], -1)
    best = flat.argmax(-1)
    return np.stack((best % maps.shape[-1], best // maps.shape[-1]), -1), flat.max(-1)


def _around(maps: Array, cells: Array) -> Array:
    """Return the 3 x 3 cells around each location, (N, K, 3, 3); beyond the edge the nearest cell counts."""
    steps = np.arange(-1, 2)
    xs = (cells[..., :1] + steps).clip(0, maps.shape[-1] - 1)
    ys = (cells[..., 1:] + steps).clip(0, maps.shape[-2] - 1)
    people, keypoints = np.ogrid[: maps.shape[0], : maps.shape[1]]
    cells_around: Array = maps[people[..., None, None], keypoints[..., None, None], ys[..., :, None], xs[..., None, :]]
    return cells_around


def _dark_udp(maps: Array, settings: dict[str, Any]) -> tuple[Array, Array]:
    """Arg-max, and a Newton step on the log of the blurred map."""
    size = settings["blur_kernel_size"]
    cells, heights = _peaks(maps)
    blurred = _blurring(maps.shape[2], size) @ maps @ _blurring(maps.shape[3], size)
    highest = blurred.max((-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        blurred = blurred * np.where(highest > 0, heights / highest, 1)[..., None, None]
        peak = _around(np.log(blurred.clip(1e-3, 50)), cells)
        left, right, up, down = peak[..., 1, 0], peak[..., 1, 2], peak[..., 0, 1], peak[..., 2, 1]
        centre, up_left, down_right = peak[..., 1, 1], peak[..., 0, 0], peak[..., 2, 2]
        dx, dy = (right - left) / 2, (down - up) / 2
        nudge = np.finfo(np.float32).eps
        dxx, dyy = right - 2 * centre + left + nudge, down - 2 * centre + up + nudge
        dxy = (down_right - right - down + 2 * centre - left - up + up_left) / 2
        step = np.stack((dyy * dx - dxy * dy, dxx * dy - dxy * dx), -1) / (dxx * dyy - dxy * dxy)[..., None]
    near = (np.abs(step) <= size // 2).all(-1, keepdims=True)
    return cells - np.where(near, step, 0), heights


@cache
def _blurring(size: int, kernel_size: int) -> Array:
    sigma = 0.3 * ((kernel_size - 1) * 0.5 - 1) + 0.8
    radius = kernel_size // 2
    distance = np.abs(np.arange(size)[:, None] - np.arange(size))
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights = np.where(distance <= radius, np.exp(-(distance**2) / (2 * sigma**2)) / taps.sum(), 0)
    return weights.astype(np.float32)


def _expected_oks(maps: Array, settings: dict[str, Any]) -> tuple[Array, Array]:
    """Find the location of the highest expected OKS, between cells by a parabola along each axis."""
    height, width = maps.shape[2:]
    variances = settings["oks_variances"]
    columns = np.stack([_smoothing(height, variance) for variance in variances])
    rows = np.stack([_smoothing(width, variance) for variance in variances])
    expected = columns @ maps @ rows.transpose(0, 2, 1)
    cells, _ = _peaks(expected)
    peak = _around(expected, cells)
    centre = peak[..., 1, 1, None]
    before = np.stack((peak[..., 1, 0], peak[..., 0, 1]), -1)
    after = np.stack((peak[..., 1, 2], peak[..., 2, 1]), -1)
    curvature = before - 2 * centre + after
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.where(curvature == 0, 0, (before - after) / (2 * curvature))
    inside = ((cells > 0) & (cells < np.array([width - 1, height - 1]))).all(-1, keepdims=True)
    people, keypoints = np.ogrid[: maps.shape[0], : maps.shape[1]]
    return cells + np.where(inside, step, 0), maps[people, keypoints, cells[..., 1], cells[..., 0]]


@cache
def _smoothing(size: int, variance: float) -> Array:
    radius = int(np.ceil(3 * variance))
    offsets = np.arange(-radius, radius + 1)
    taps = np.exp(-(offsets.astype(np.float64) ** 2) / (2 * variance))
    source = (np.arange(size)[:, None] + offsets) % (2 * size)
    source = np.minimum(source, 2 * size - 1 - source)
    weights = np.zeros((size, size))
    np.add.at(weights, (np.arange(size)[:, None], source), taps / taps.sum())
    return weights.astype(np.float32)


def _antialiased(values: Array, height: int, width: int) -> Array:
    """Resize (H, W) or (H, W, C) as PyTorch does with antialias=True: OpenCV's INTER_LINEAR skips pixels."""
    down, across = _triangles(values.shape[0], height), _triangles(values.shape[1], width)
    return np.tensordot(down, np.tensordot(across, values, (1, 1)), (1, 1)).astype(np.float32)


@cache
def _triangles(given: int, wanted: int) -> Array:
    """Return the weights (wanted, given) of a triangle filter that is as wide as the reduction."""
    scale = given / wanted
    reach = max(scale, 1.0)
    centres = (np.arange(wanted) + 0.5) * scale
    first = np.maximum(0, (centres - reach + 0.5).astype(int))
    end = np.minimum(given, (centres + reach + 0.5).astype(int))
    pixels = np.arange(given)
    weights = (1 - np.abs((pixels + 0.5 - centres[:, None]) / reach)).clip(min=0)
    weights[(pixels < first[:, None]) | (pixels >= end[:, None])] = 0
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)  # type: ignore[no-any-return,unused-ignore]


def _clean(logits: Array, hole_area: int, speck_area: int) -> Array:
    """Fill small holes, then remove small specks, in logits; a mask that is all specks stays."""
    bits = logits > 0
    filled = bits | _small_parts(~bits, hole_area)
    clean = filled & ~_small_parts(filled, speck_area)
    if not clean.any():
        clean = filled
    return np.where(clean == bits, logits, np.where(clean, np.float32(10), np.float32(-10)))


def _small_parts(bits: Array, most: int) -> Array:
    """Return the connected parts of at most ``most`` pixels."""
    if most < 1:
        return np.zeros_like(bits)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(bits.astype(np.uint8), connectivity=8)
    few = statistics[:, cv2.CC_STAT_AREA] <= most
    few[0] = False
    small: Array = few[labels]
    return small


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 2 for a photo or folder that cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", help="a picture")
    parser.add_argument("--output", type=Path, metavar="JSON", help="where to write the people (default: print them)")
    parser.add_argument("--models", type=Path, default=Path(__file__).resolve().parent, help="folder of the networks")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args(arguments)
    image = cv2.imread(options.photo, cv2.IMREAD_COLOR)
    if image is None:
        print(f"runner: {options.photo}: not a picture that OpenCV can read", file=sys.stderr)
        return 2
    try:
        model = Model(options.models, options.threads)
    except (OSError, ValueError, KeyError) as error:
        print(f"runner: {options.models}: {error}; give the folder that bmp export wrote", file=sys.stderr)
        return 2
    people = model(image)
    rows = []
    for row in range(len(people.boxes)):
        outlines, _ = cv2.findContours(people.masks[row].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        points = np.concatenate((people.keypoints[row], people.visibility[row, :, None]), 1)
        rows.append(
            {
                "box": people.boxes[row].tolist(),
                "score": float(people.scores[row]),
                "keypoints": points.tolist(),
                "keypoint_scores": people.keypoint_scores[row].tolist(),
                "mask_score": float(people.mask_scores[row]),
                "outlines": [outline[:, 0].tolist() for outline in outlines],
            }
        )
    text = json.dumps({"height": image.shape[0], "width": image.shape[1], "people": rows})
    if options.output is None:
        print(text)
    else:
        options.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
