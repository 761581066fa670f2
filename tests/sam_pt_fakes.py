"""Segmenters whose answers are plain arithmetic on prompts, trackers that are right, and films to try them on."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from bmp.structures import Frame, Image


@dataclass
class MadeUpSAM:
    """Draws a disk around each positive point, and none where a negative one is near; the made-up SAM of the vectors.

    A logit is 8 - distance to the nearest positive point (-20 without one), minus 6 within 5 px of each negative one,
    minus 0.5 with a mask prompt, and -20 outside of the box grown by 2. Predicted IoU is 0.9 from two positive points
    on, else 0.6. ``questions`` has, for each call, its rows; ``opened`` counts images.
    """

    questions: list = field(default_factory=list)
    opened: int = 0

    def open(self, images):
        self.opened += len(images)
        return list(images)

    def logits(self, views, prompts, previous=None, *, multimask=False):
        answers = []
        for number, (view, asked) in enumerate(zip(views, prompts, strict=True)):
            rows = torch.arange(view.height)[:, None]
            columns = torch.arange(view.width)
            logits = torch.full((len(asked), view.height, view.width), -20.0)
            scores = torch.full((len(asked),), 0.6)
            questions = []
            for row in range(len(asked)):
                real = asked.labels[row] != -1
                points, labels = asked.points[row][real], asked.labels[row][real]
                away = [torch.hypot(columns - x, rows - y) for x, y in points.tolist()]
                positive = [far for far, label in zip(away, labels.tolist(), strict=True) if label == 1]
                if positive:
                    logits[row] = 8 - torch.stack(positive).amin(dim=0)
                for far, label in zip(away, labels.tolist(), strict=True):
                    logits[row] -= 6.0 * ((far < 5) & (label == 0))
                if previous is not None:
                    logits[row] -= 0.5
                box = None if asked.boxes is None else asked.boxes[row].tolist()
                if box is not None:
                    x1, y1, x2, y2 = box
                    inside = (columns >= x1 - 2) & (columns <= x2 + 2) & (rows >= y1 - 2) & (rows <= y2 + 2)
                    logits[row] = logits[row].where(inside, -20.0)
                scores[row] = 0.9 if len(positive) >= 2 else 0.6
                mask = None if previous is None else previous[number][row].clone()
                questions.append((points.tolist(), labels.tolist(), box, mask))
            self.questions.append(questions)
            answers.append((logits, scores))
        return answers

    def bits(self, view, logits):
        return logits > 0

    def enlarge(self, view, logits):
        return logits


@dataclass
class RedSAM(MadeUpSAM):
    """Answers with the pixels that are as red as those under most positive points; ``textured`` paints objects so.

    Without a pixel under a point, as beside the frame, nothing is found. Predicted IoU is 0.9.
    """

    def logits(self, views, prompts, previous=None, *, multimask=False):
        answers = []
        for view, asked in zip(views, prompts, strict=True):
            red = view.pixels[..., 0].long()
            logits = torch.full((len(asked), view.height, view.width), -9.0)
            for row in range(len(asked)):
                x, y = asked.points[row][asked.labels[row] == 1].long().unbind(1)
                if asked.boxes is not None and not len(x):
                    x, y = asked.boxes[row].reshape(2, 2).mean(dim=0).long()[:, None]
                inside = (x >= 0) & (x < view.width) & (y >= 0) & (y < view.height)
                if inside.any():
                    logits[row][red == red[y[inside], x[inside]].mode().values] = 9.0
            self.questions.append([asked.points[row][asked.labels[row] == 1].tolist() for row in range(len(asked))])
            answers.append((logits, torch.full((len(asked),), 0.9)))
        return answers


def noise(seed, height, width):
    """Smooth grey noise of high contrast, uint8 (height, width)."""
    values = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32), (0, 0), 1.5)
    return np.clip(values / values.std() * 50 + 128, 0, 255).astype(np.uint8)


def textured(*objects, count, height=80, width=100, start=0):
    """Frames of textured rectangles before a textured ground; the later ones are in front.

    Each object is a function from the number of a frame to its whole corners x1, y1, x2, y2, or None where it is not
    there. Its red is 100 + 20 * number, that of the ground 50.
    """
    frames, ground = [], noise(99, height, width)
    for number in range(start, start + count):
        pixels = np.stack([np.full_like(ground, 50), ground, ground], axis=2)
        for which, box in enumerate(objects):
            if (corners := box(number)) is not None:
                x1, y1, x2, y2 = corners
                rows, columns = np.arange(max(0, y1), min(y2, height)), np.arange(max(0, x1), min(x2, width))
                own = noise(which, y2 - y1, x2 - x1)[np.ix_(rows - y1, columns - x1)]
                pixels[np.ix_(rows, columns)] = np.stack([np.full_like(own, 100 + 20 * which), own, own], axis=2)
        frames.append(Frame(number, number / 25, Image(torch.from_numpy(pixels))))
    return frames


def mask_in(frame, which):
    """The pixels of an object of ``textured``."""
    return frame.image.pixels[..., 0] == 100 + 20 * which


def film_of(frames):
    """The frames as a film of which parts can be read, as often as need be."""
    return lambda start, end: [each for each in frames if start <= each.index and (end is None or each.index < end)]


@dataclass
class RightTracker:
    """Says where points are from the speed of what they are on, in films of ``textured``; late if it is to be.

    speeds: by the number of the object, the ground's is (0, 0).
    """

    speeds: dict
    delay: int = 0
    recovers: bool = False

    def start(self, image):
        return [image]

    def step(self, state, previous, image, points):
        state.append(image)
        if len(state) < self.delay + 2:
            return points, torch.zeros(len(points), dtype=torch.bool), torch.full((len(points),), torch.inf)
        before, after = state[0], state[1]
        state.pop(0)
        moved, seen = points.clone(), torch.zeros(len(points), dtype=torch.bool)
        for row, (x, y) in enumerate(points.tolist()):
            red = _red(before, x, y)
            dx, dy = self.speeds.get((red - 100) // 20, (0, 0))
            moved[row] = torch.tensor([x + dx, y + dy])
            seen[row] = red >= 0 and _red(after, x + dx, y + dy) == red
        return moved, seen, torch.zeros(len(points))


def _red(image, x, y):
    inside = 0 <= x < image.width and 0 <= y < image.height
    return int(image.pixels[int(y), int(x), 0]) if inside else -1
