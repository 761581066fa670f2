"""What is read from the outputs of transformers' detectors: boxes, classes and masks of people, in image pixels."""

import sys

import pytest
import tiny_models
import torch

pytest.importorskip("transformers", reason="transformers is not installed")

from bmp.detectors.transformers import TransformersDetector
from bmp.errors import UserError
from bmp.structures import Image

pytestmark = pytest.mark.slow  # transformers takes a second to import

IMAGE = Image(torch.zeros(40, 80, 3, dtype=torch.uint8))


def detector(name="RfDetrForInstanceSegmentation", **options):
    return TransformersDetector("random", tiny_models.transformers_config(name), side=64, **options)


def outputs(**values):
    return lambda pixel_values: values


@pytest.mark.parametrize("masks", [False, True])
def test_the_person_column_alone_counts_and_boxes_are_shares_of_the_image(masks):
    stage = detector(score_threshold=0.4)
    logits = torch.full((1, 4, 3), -9.0)
    logits[0, 0, 0] = 9  # a dog
    logits[0, 1, 1], logits[0, 2, 1] = 1.0, 3.0
    logits[0, 3] = torch.tensor([5.0, 0.5, 5.0])  # rather something else, and a person as well
    boxes = torch.tensor([[[0.5, 0.5, 1, 1], [0.25, 0.5, 0.5, 1], [0.75, 0.5, 0.5, 0.5], [0.1, 0.1, 0.2, 0.2]]])
    soft = torch.full((1, 4, 10, 20), -5.0)
    soft[0, 2, :, 10:] = 5
    stage._network = outputs(logits=logits, pred_boxes=boxes, **({"pred_masks": soft} if masks else {}))
    (found,) = stage.detect([IMAGE])
    torch.testing.assert_close(found.scores, torch.tensor([3.0, 1.0, 0.5]).sigmoid())
    torch.testing.assert_close(found.boxes[:2], torch.tensor([[40.0, 10, 80, 30], [0, 0, 40, 40]]))
    assert (found.masks is not None) == masks
    if masks:
        assert found.masks[0, :, 44:].all()
        assert not found.masks[0, :, :36].any()
        assert not found.masks[1].any()  # an empty mask stays beside its box


def test_masks_are_kept_in_windows_and_are_those_of_the_whole_image():
    stage = detector(score_threshold=0.4)
    generator = torch.Generator().manual_seed(0)
    soft = torch.full((1, 2, 16, 20), -5.0)
    soft[0, 0, 3:8, 4:9] = torch.randn(5, 5, generator=generator)
    logits = torch.full((1, 2, 3), -9.0)
    logits[0, 0, 1] = 2
    stage._network = outputs(logits=logits, pred_boxes=torch.tensor([[[0.5, 0.5, 1, 1]] * 2]), pred_masks=soft)
    (found,) = stage.detect([Image(torch.zeros(320, 400, 3, dtype=torch.uint8))])
    assert found.windows.patches[0].numel() < 320 * 400 / 4
    whole = torch.nn.functional.interpolate(soft[:, :1], (320, 400), mode="bilinear")[0] > 0
    assert whole.any()
    assert torch.equal(found.masks, whole)


def test_masks_of_queries_that_have_no_boxes_give_them():
    stage = detector(score_threshold=0.3)
    stage._softmax = True
    classes = torch.tensor([[[0.0, 9, 0, 0], [0, 0, 0, 9], [9, 0, 0, 0]]])  # a person, nothing, a dog
    soft = torch.full((1, 3, 10, 20), -9.0)
    soft[0, :, 2:5, 4:10] = 9
    stage._network = outputs(class_queries_logits=classes, masks_queries_logits=soft)
    (found,) = stage.detect([IMAGE])
    torch.testing.assert_close(found.boxes, torch.tensor([[16.0, 8, 40, 20]]))
    assert found.masks.any()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (dict(label="cow"), "there is: dog, person, cat"),
        (dict(label=7), "label"),
        (dict(score_threshold=2), "score_threshold"),
        (dict(batch_size=0), "batch_size"),
        (dict(dtype="int8"), "dtype"),
    ],
)
def test_wrong_options_are_told(options, told):
    with pytest.raises(UserError, match=told):
        detector(**options)


@pytest.mark.parametrize(("name", "bare"), [("RTDetrV2ForObjectDetection", True), ("RfDetrForObjectDetection", False)])
def test_colours_are_normalised_as_in_training(name, bare):
    stage = detector(name)
    white = stage._input(Image(torch.full((5, 9, 3), 255, dtype=torch.uint8)))
    expected = (
        torch.ones(3) if bare else (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    )
    torch.testing.assert_close(white[0, :, 3, 3], expected)


def test_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"\.\[modern\]"):
        detector()
