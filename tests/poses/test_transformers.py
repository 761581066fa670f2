"""ViTPose: locations are those of the maps' maxima, mirrored maps are turned back, experts are asked by number."""

import pytest
import tiny_models
import torch

pytest.importorskip("transformers", reason="transformers is not installed")

from bmp.errors import UserError
from bmp.poses.transformers import TransformersPose
from bmp.structures import Detections, Image

IMAGE = Image(torch.zeros(128, 96, 3, dtype=torch.uint8))
WHOLE = Detections(torch.tensor([[0.0, 0.0, 96.0, 128.0]]), torch.ones(1))


def pose(experts=False, **options):
    name = "VitPoseForPoseEstimation" + (", experts" if experts else "")
    return TransformersPose("random", tiny_models.transformers_config(name), **options)


def bump(row, column):
    y, x = torch.arange(32.0)[:, None] - row, torch.arange(24.0) - column
    return 0.8 * torch.exp(-(x * x + y * y) / 8)


@pytest.mark.slow
@pytest.mark.parametrize("flip_test", [False, True])
def test_maxima_are_found_and_mirrored_maps_are_turned_back(flip_test):
    stage = pose(flip_test=flip_test)
    maps = torch.stack([bump(8 + index, 5) for index in range(17)])[None]
    calls = iter([maps, maps[:, stage._flipped].flip(-1)])
    stage._run = lambda crops: (next(calls),)
    (found,) = stage.estimate([IMAGE], [WHOLE])
    # The window is the box, 1.25 times as large, about its centre.
    x = 48 + (5 / 23 - 0.5) * 120
    y = 64 + (torch.arange(8.0, 25) / 31 - 0.5) * 160
    torch.testing.assert_close(found.keypoints[0, :, 0], torch.full((17,), x), rtol=0, atol=0.3)
    torch.testing.assert_close(found.keypoints[0, :, 1], y, rtol=0, atol=0.3)
    torch.testing.assert_close(found.scores[0], torch.full((17,), 0.8), rtol=0, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("pads", [False, True])
def test_people_of_several_images_go_together(pads):
    stage = pose(batch_size=3, flip_test=False)
    noise = torch.randint(0, 256, (2, 128, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = [Image(noise[0]), IMAGE, Image(noise[1])]
    boxes = torch.tensor([[0.0, 0.0, 96.0, 128.0], [10.0, 20.0, 60.0, 90.0]])
    people = [Detections(boxes, torch.ones(2)), Detections.empty(), Detections(boxes, torch.ones(2))]
    alone = [stage.estimate([image], [each])[0] for image, each in zip(images, people, strict=True)]
    own, sizes = stage._run, []
    stage._pads = pads
    stage._run = lambda crops: sizes.append(len(crops)) or own(crops)
    together = stage.estimate(images, people)
    assert sizes == [3, 1]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.keypoints, other.keypoints, rtol=0, atol=1e-2)
        torch.testing.assert_close(one.scores, other.scores)
    stage.estimate(images[:1], [people[0][[0, 1, 0]]])
    assert sizes[2:] == [3]  # never more than batch_size


@pytest.mark.slow
def test_each_expert_of_vitpose_plus_answers_for_itself():
    first, second = (pose(True, dataset_index=index).estimate([IMAGE], [WHOLE])[0] for index in (0, 1))
    assert not torch.allclose(first.scores, second.scores)


@pytest.mark.slow
@pytest.mark.parametrize(("experts", "index"), [(True, 3), (True, -1), (False, 1)])
def test_an_expert_that_is_not_there_is_told(experts, index):
    with pytest.raises(UserError, match="dataset_index"):
        pose(experts, dataset_index=index)
