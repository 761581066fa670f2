"""The trainings that claims.py compares: one base, and what is fine-tuned from it in equally many steps, by seed.

Each runs as a program of its own, ``python -m bmp.training --resume``, in a folder whose name has a fingerprint of its
config, its data and its start. So an interrupted one goes on, a finished one is never done again, and what was trained
on other data is never taken for it. Knows no measurement.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claims_arms import fingerprint
from common import run_training

from bmp.errors import UserError
from bmp.training.settings import provenance, read_config

BASE = "base"
RECIPES = ("pose_mask_refine", "control", "mask_refine", "pose1_mask_refine", "max_visibility", "max_spread")
"""The most telling ones first: the paper's own, and the base trained on for as long."""

SECONDS_A_STEP = {
    BASE: 1.5,
    "pose_mask_refine": 1.5,
    "control": 1.5,
    "mask_refine": 1.5,
    "pose1_mask_refine": 1.5,
    "max_visibility": 0.25,
    "max_spread": 0.25,
}
"""Of one core, for plans on machines that have not trained yet: estimates, from 0.18 s for a prediction of six people
with its gradients. A recipe with corrections makes eight of two images, one without them one, the base four of four."""


@dataclass(frozen=True)
class Training:
    """A recipe with a seed."""

    recipe: str
    seed: int = 0

    @property
    def name(self) -> str:
        """In words without blanks."""
        return self.recipe if self.recipe == BASE else f"{self.recipe}-seed{self.seed}"


class Trainings:
    """Runs trainings, or tells what is left of them.

    Args:
        folder: for what they write.
        data_root: of SynthCrowd's training scenes, with keypoints.
        steps: fewer than the configs say, to see whether everything is in place; None for theirs.
    """

    def __init__(self, folder: Path, data_root: Path, steps: int | None = None) -> None:
        self.folder = folder
        self.data_root = data_root
        self.steps = steps

    @functools.cache  # noqa: B019  # there is one such object in a run, which lives as long as it does
    def missing_data(self) -> str | None:
        """Return which data are missing and how to make them, None if all are here."""
        try:
            for recipe in (BASE, *RECIPES):
                read_config(f"train/claims/{recipe}.py", {"data_root": str(self.data_root)})
        except UserError as error:
            return str(error)
        return None

    def weights(self, training: Training) -> Path:
        """Return the file of the trained weights, there or not; raises ``UserError`` where data are missing."""
        return self.folder / "weights" / f"{training.name}-{self._fingerprint(training)[:16]}.safetensors"

    def ready(self, training: Training) -> bool:
        """Tell whether it is done."""
        return self.missing_data() is None and self.weights(training).is_file()

    def total(self, training: Training) -> int:
        """Return its number of steps."""
        return self.steps or int(self._config(training.recipe).train_cfg.max_iters)

    def done(self, training: Training) -> int:
        """Return how many steps it would go on from."""
        record = self._work_dir(training) / "last_checkpoint"
        if not record.is_file():
            return 0
        return int(Path(record.read_text().strip()).stem.removeprefix("iter_"))

    def seconds_a_step(self, training: Training) -> float:
        """Return the median of what the trainings of this recipe took here, else what others took elsewhere."""
        times = [
            float(row["time"])
            for path in sorted((self.folder / "train").glob(f"{training.recipe}-*/*/vis_data/scalars.json"))
            for row in map(json.loads, path.read_text().splitlines())
            if "time" in row and "loss" in row
        ]
        return sorted(times)[len(times) // 2] if times else SECONDS_A_STEP[training.recipe]

    def hours_left(self, training: Training) -> float:
        """Return the hours that it is expected to take."""
        if self.ready(training):
            return 0.0
        return (self.total(training) - self.done(training)) * self.seconds_a_step(training) / 3600

    def arguments(self, training: Training) -> list[str]:
        """Return those of ``python -m bmp.training`` that train, or go on."""
        settings = [f"{key}={value}" for key, value in self._overrides(training).items()]
        return [
            *(f"train/claims/{training.recipe}.py", "--resume"),
            *("--work-dir", str(self._work_dir(training)), "--export", str(self.weights(training))),
            *(word for setting in settings for word in ("--set", setting)),
        ]

    def run(self, training: Training) -> None:
        """Train until it is done; ``UserError`` where it ends in another way."""
        run_training(self.arguments(training), self.weights(training), self._work_dir(training).with_suffix(".log"))

    def _work_dir(self, training: Training) -> Path:
        return self.folder / "train" / f"{training.name}-{self._fingerprint(training)[:16]}"

    @functools.cache  # noqa: B019
    def _config(self, recipe: str) -> Any:
        return read_config(f"train/claims/{recipe}.py", {"data_root": str(self.data_root)})

    @functools.cache  # noqa: B019
    def _described(self, recipe: str) -> list[object]:
        """Return a recipe without folders, which mean nothing, and with digests of its data."""
        config = self._config(recipe)
        text = json.dumps(config.to_dict(), sort_keys=True, default=str).replace(str(self.data_root), "DATA")
        whole = json.loads(text)
        for key in ("work_dir", "filename", "made_by"):
            whole.pop(key, None)
        whole["model"].pop("cache")
        # The base is named by what it was trained with; see below.
        start = whole["model"].pop("checkpoint") if recipe == BASE else None
        return [whole, start, provenance(config)["data"]]

    @functools.cache  # noqa: B019
    def _fingerprint(self, training: Training) -> str:
        start = None if training.recipe == BASE else self._fingerprint(Training(BASE))
        return fingerprint([self._described(training.recipe), training.seed, self.steps, start])

    def _overrides(self, training: Training) -> dict[str, object]:
        overrides: dict[str, object] = {
            "data_root": str(self.data_root),
            "model.cache": str(self.folder / "embeddings"),
            # The order of the samples has a seed of its own.
            "randomness.seed": training.seed,
            "train_dataloader.dataset.seed": training.seed,
        }
        if training.recipe != BASE:
            overrides["model.checkpoint"] = str(self.weights(Training(BASE)))
        if self.steps is not None:
            overrides |= {"train_cfg.max_iters": self.steps, "train_cfg.val_begin": self.steps + 1}
            overrides["default_hooks.checkpoint.interval"] = max(1, self.steps // 4)
        return overrides


def in_order(seeds: Sequence[int]) -> list[Training]:
    """Return all trainings, the base first, then the recipes of one seed after the other."""
    return [Training(BASE), *(Training(recipe, seed) for seed in seeds for recipe in RECIPES)]
