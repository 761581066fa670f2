"""Trackers that see several frames at once, such as CoTracker and TAPIR, as point trackers that answer a little later.

Neither is a dependency, nor are their weights here: a config names the class by its dotted path and the checkpoint.
CoTracker's code and weights are CC BY-NC 4.0, for research only; TAPIR's are Apache-2.0. It knows no object.
"""

from __future__ import annotations

import abc
import importlib
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import resolve
from bmp.errors import UserError
from bmp.registry import TRACKERS
from bmp.structures import Image


@dataclass
class _Window:
    """The frames that are held, and what the network last said of points in them.

    tracks: (T, M, 2) from the first of these frames on; visible: bool (T, M). answered: how many frames of them were
    answered. lost: bool (M,), points that cannot be found again.
    """

    frames: list[Image] = field(default_factory=list)
    tracks: Tensor = field(default_factory=lambda: torch.zeros(1, 0, 2))
    visible: Tensor = field(default_factory=lambda: torch.zeros(1, 0, dtype=torch.bool))
    answered: int = 0
    lost: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))


class WindowedTracker(abc.ABC):
    """Hands a window of frames to a network, with the points in its first frame, and answers the frames after it.

    The network runs once for ``stride`` frames as long as the caller goes on with the points it was answered. Where it
    adds or moves points, it runs anew, so that each point begins where the caller has it. A point that is hidden is
    found again within a run; one that is hidden where the next run begins is lost, as its place there is a guess.

    Args:
        window: frames that the network sees at once; answers are ``window - 2`` frames late.
        stride: frames answered by a run; None for half of the window.
        device: of the network.

    Raises:
        UserError: for a window below 2, or a stride that does not fit it.
    """

    recovers = True

    def __init__(self, window: int, stride: int | None, device: str) -> None:
        name = type(self).__name__
        if window < 2:
            raise UserError(f"{name}: window: expected at least 2 frames, got {window}")
        stride = max(1, window // 2) if stride is None else stride
        if not 1 <= stride < window:
            raise UserError(f"{name}: stride: expected 1 to {window - 1} for a window of {window}, got {stride}")
        self.window = window
        self.stride = stride
        self.device = device
        self.delay = window - 2

    @abc.abstractmethod
    def tracks(self, frames: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Follow points from the first frame of a window through all of them.

        Args:
            frames: uint8 (T, H, W, 3), RGB, on the device.
            points: float32 (M, 2), x and y in pixels, on the device; at least one.

        Returns:
            Where they are, (T, M, 2), and whether they are seen, bool (T, M).
        """

    def start(self, image: Image) -> _Window:
        """Begin with the first frame."""
        return _Window([image])

    @torch.no_grad()
    def step(self, state: _Window, previous: Image, image: Image, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Follow points into the frame ``delay`` frames before ``image``; see ``PointTracker``."""
        state.frames.append(image)
        infinite = torch.full((len(points),), torch.inf, device=points.device)
        if len(state.frames) < self.window:
            return points, torch.zeros(len(points), dtype=torch.bool, device=points.device), infinite
        own = points.detach().to("cpu", torch.float32)
        same = torch.equal(own, state.tracks[state.answered])
        if not same or state.answered >= self.stride:
            self._run(state, own)
        state.answered += 1
        state.frames.pop(0)
        found, seen = state.tracks[state.answered], state.visible[state.answered] & ~state.lost
        error = torch.where(seen, 0.0, torch.inf)
        return found.to(points.device), seen.to(points.device), error.to(points.device)

    def _run(self, state: _Window, points: Tensor) -> None:
        """Ask the network about the points in the first frame that is held."""
        hidden = (~state.visible[state.answered] | state.lost).nonzero()[:, 0]
        guessed = {tuple(place) for place in state.tracks[state.answered, hidden].tolist()} if state.answered else set()
        state.lost = torch.tensor([tuple(place) in guessed for place in points.tolist()], dtype=torch.bool)
        state.answered = 0
        if not len(points):
            state.tracks, state.visible = torch.zeros(self.window, 0, 2), torch.zeros(self.window, 0) > 0
            return
        frames = torch.stack([frame.pixels for frame in state.frames]).to(self.device)
        tracks, visible = self.tracks(frames, points.to(self.device))
        state.tracks, state.visible = tracks.float().cpu(), visible.bool().cpu()
        # The network may move a point in its first frame, too; to the caller it is where it was.
        state.tracks[0] = points


@TRACKERS.register_module()
class CoTracker(WindowedTracker):
    """CoTracker: follows all points together. Its code and weights are CC BY-NC 4.0, for research only.

    Args:
        checkpoint: name, path or URL for ``bmp.checkpoints.sources.resolve``.
        predictor: dotted path of the class, called as ``predictor(checkpoint=PATH, **options)``, and then with frames
            float (1, T, 3, H, W) from 0 to 255 and ``queries`` (1, M, 3), frame, x and y; it returns places
            (1, T, M, 2) and visibility (1, T, M), a bool or a probability.
        options: further arguments of the class.
        threshold: probability above which a point is seen.
        window, stride, device: see ``WindowedTracker``.

    Raises:
        UserError: where the class or the checkpoint cannot be had.
    """

    def __init__(
        self,
        checkpoint: str,
        predictor: str = "cotracker.predictor.CoTrackerPredictor",
        *,
        options: dict[str, Any] | None = None,
        threshold: float = 0.7,
        window: int = 16,
        stride: int | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(window, stride, device)
        made = _class_at(predictor, "CoTracker")(checkpoint=str(resolve(checkpoint)), **(options or {}))
        self._predictor = made.to(device).eval()
        self.threshold = threshold

    def tracks(self, frames: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """See ``WindowedTracker``."""
        queries = torch.cat([points.new_zeros(len(points), 1), points], dim=1)
        places, visible = self._predictor(frames.permute(0, 3, 1, 2)[None].float(), queries=queries[None])
        seen = visible[0]
        return places[0], seen if seen.dtype == torch.bool else seen > self.threshold


@TRACKERS.register_module()
class TAPIR(WindowedTracker):
    """TAPIR and BootsTAPIR, in PyTorch: follows each point by itself, on frames of 256 x 256 pixels. Apache-2.0.

    Args:
        checkpoint: name, path or URL for ``bmp.checkpoints.sources.resolve``, a state dict.
        model: dotted path of the class, called as ``model(**options)``, and then with frames float (1, T, 256, 256, 3)
            from -1 to 1 and points (1, M, 3), frame, y and x; it returns a dict of ``tracks`` (1, M, T, 2), x and y,
            and of logits ``occlusion`` and ``expected_dist`` (1, M, T).
        options: arguments of the class; None for those of BootsTAPIR, ``pyramid_level=1``.
        threshold: product of the probabilities of being visible and of being certain, above which a point is seen;
            SAM-PT takes 0.1.
        window, stride, device: see ``WindowedTracker``.

    Raises:
        UserError: where the class or the checkpoint cannot be had, or do not go together.
    """

    def __init__(
        self,
        checkpoint: str,
        model: str = "tapnet.torch.tapir_model.TAPIR",
        *,
        options: dict[str, Any] | None = None,
        threshold: float = 0.1,
        window: int = 24,
        stride: int | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(window, stride, device)
        network = _class_at(model, "TAPIR")(**({"pyramid_level": 1} if options is None else options))
        path = resolve(checkpoint)
        load_strictly(network, load_state_dict(path), file=path)
        self._network = network.to(device).eval()
        self.threshold = threshold

    def tracks(self, frames: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """See ``WindowedTracker``."""
        height, width = frames.shape[1:3]
        small = F.interpolate(frames.permute(0, 3, 1, 2).float(), (_SIDE, _SIDE), mode="bilinear", antialias=True)
        scale = points.new_tensor([_SIDE / width, _SIDE / height])
        rows = (points * scale).flip(1)
        queries = torch.cat([rows.new_zeros(len(rows), 1), rows], dim=1)
        answer = self._network(small.permute(0, 2, 3, 1)[None] / 127.5 - 1, queries[None])
        sure = (1 - answer["occlusion"][0].sigmoid()) * (1 - answer["expected_dist"][0].sigmoid())
        return (answer["tracks"][0] / scale).transpose(0, 1), (sure > self.threshold).T


_SIDE = 256


def _class_at(path: str, user: str) -> Any:
    """Return the class at a dotted path."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{user}: {path!r} cannot be imported ({error}); install its package, which BMP neither has nor needs, or "
            "name the class by its dotted path"
        ) from None
