"""A segmenter whose answers are plain arithmetic on its prompts, and keeps what it was asked."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


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

    def logits(self, views, prompts, previous=None):
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
