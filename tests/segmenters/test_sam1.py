"""SAM 1 against segment_anything's own predictor, on a shrunk network with made-up weights; 1024 x 1024 pixels are slow."""

import sys
import warnings

import pytest
import tiny_models
import torch
from prompt_fakes import NOBODY, PosePrompter, crowd, hide, pad, picture

from bmp.errors import UserError
from bmp.models.sam1 import build_sam1
from bmp.registry import SEGMENTERS
from bmp.segmenters.sam1 import SAM1Segmenter
from bmp.structures import Detections, Poses

segment_anything = pytest.importorskip("segment_anything", reason="the package segment-anything is not installed")


@pytest.fixture
def tiny(monkeypatch) -> str:
    """A SAM 1 of 128 x 128 pixels and two layers, registered where segment_anything keeps its models."""
    monkeypatch.setitem(segment_anything.sam_model_registry, "tiny", tiny_models.sam1)
    return "tiny"


def assert_equal_to_predictor(model, image, prompter, people, poses):
    segmenter = SAM1Segmenter(prompter, "random", model)
    (masks,) = segmenter.segment(segmenter.open([image]), [people], [poses], [NOBODY])
    own = segment_anything.SamPredictor(build_sam1(model, "random"))
    own.set_image(image.pixels.numpy())
    for row in range(len(people)):
        asked = masks.prompts[[row]]
        logits, iou, _ = own.predict(
            asked.points[0].numpy(),
            asked.labels[0].numpy(),
            None if asked.boxes is None else asked.boxes[0].numpy(),
            multimask_output=False,
            return_logits=True,
        )
        expected = torch.from_numpy(logits[0])
        assert 0.02 < (expected > 0).float().mean() < 0.98, "a mask of everything or nothing would test nothing"
        certain = expected.abs() > 1e-5  # batches of another size round the last bit differently
        assert certain.float().mean() > 0.99
        assert torch.equal(masks.bits[row][certain], (expected > 0)[certain])
        assert masks.scores[row].item() == pytest.approx(max(iou[0], 0), abs=1e-5)


@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize(
    ("height", "width"),
    [(37, 91), *[pytest.param(*size, marks=pytest.mark.slow) for size in ((128, 128), (301, 150), (5, 40))]],
)
def test_masks_equal_those_of_the_predictor(tiny, height, width, boxes):
    people, poses = crowd(5, height, width)
    assert_equal_to_predictor(tiny, picture(height, width), PosePrompter(boxes=boxes), people, poses)


@pytest.mark.slow
def test_corrections_equal_those_of_the_predictor(tiny):
    """Asked with one point, three masks to choose from; then with more points and the logits of the answer before."""
    image = picture(75, 91)
    people, poses = crowd(3, 75, 91)
    segmenter = SAM1Segmenter(PosePrompter(), "random", tiny)
    own = segment_anything.SamPredictor(build_sam1(tiny, "random"))
    own.set_image(image.pixels.numpy())
    views = segmenter.open([image])
    previous, own_previous = None, [None] * len(people)
    for count in (1, 2, 3):
        prompts = PosePrompter(count).prompts(people, poses, NOBODY)
        ((logits, scores),) = segmenter.logits(views, [prompts], previous, multimask=count == 1)
        previous = [logits]
        for row in range(len(people)):
            masks, ious, low = own.predict(
                prompts.points[row].numpy(),
                prompts.labels[row].numpy(),
                mask_input=own_previous[row],
                multimask_output=count == 1,
                return_logits=True,
            )
            best = ious.argmax()
            large = segmenter._enlarge(logits[[row]], 75, 91)[0]
            torch.testing.assert_close(large, torch.from_numpy(masks[best]), atol=1e-4, rtol=1e-4)
            assert scores[row].item() == pytest.approx(max(ious[best], 0), abs=1e-5)
            own_previous[row] = low[[best]]
    ((uncorrected, _),) = segmenter.logits(views, [prompts])
    assert not torch.allclose(logits, uncorrected, atol=1e-3)


@pytest.mark.slow
def test_masks_equal_those_of_the_predictor_at_full_size(shared, monkeypatch):
    """On 1024 x 1024 pixels, with two layers: one of them attends to the whole image."""
    from bmp.io.images import load

    monkeypatch.setitem(segment_anything.sam_model_registry, "wide", lambda: tiny_models.sam1(1024))
    image = load(shared / "data" / "ochuman_mini" / "000817.jpg")
    people, poses = crowd(2, image.height, image.width)
    assert_equal_to_predictor("wide", image, PosePrompter(boxes=True), people, poses)


@pytest.mark.slow
def test_images_and_uneven_prompts_are_decoded_together(tiny):
    images = [picture(60, 80, seed=1), picture(33, 97, seed=2)]
    people, poses = zip(*(crowd(3, i.height, i.width, seed=i.width) for i in images), strict=True)
    poses = (poses[0], hide(poses[1], 0, 0))
    segmenter = SAM1Segmenter(PosePrompter(), "random", tiny, image_batch=2, prompt_chunk=4)
    views = segmenter.open(images)
    prompts = [segmenter.prompter.prompts(*row, NOBODY) for row in zip(people, poses, strict=True)]
    together = segmenter.logits(views, [pad(asked, 1, 2) for asked in prompts])
    alone = SAM1Segmenter(PosePrompter(), "random", tiny, prompt_chunk=1)
    for image, asked, (logits, scores) in zip(images, prompts, together, strict=True):
        ((expected, expected_scores),) = alone.logits(alone.open([image]), [asked])
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(scores, expected_scores, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_box_alone(tiny):
    people, poses = crowd(1, 60, 80)
    hidden = hide(poses, 0, 0, 1, 2)
    segmenter = SAM1Segmenter(PosePrompter(boxes=True), "random", tiny)
    image = picture(60, 80)
    (masks,) = segmenter.segment(segmenter.open([image]), [people], [hidden], [NOBODY])
    own = segment_anything.SamPredictor(build_sam1(tiny, "random"))
    own.set_image(image.pixels.numpy())
    expected, _, _ = own.predict(box=people.boxes[0].numpy(), multimask_output=False)
    assert torch.equal(masks.bits[0], torch.from_numpy(expected[0]))


def test_nobody(tiny):
    segmenter = SAM1Segmenter(PosePrompter(), "random", tiny)
    (masks,) = segmenter.segment(segmenter.open([picture(5, 9)]), [Detections.empty()], [Poses.empty(17)], [NOBODY])
    assert masks.bits.shape == (0, 5, 9)


@pytest.mark.slow
def test_bfloat16(tiny):
    people, poses = crowd(4, 100, 120)
    image = picture(100, 120)
    exact, quick = (SAM1Segmenter(PosePrompter(), "random", tiny, dtype=dtype) for dtype in ("float32", "bfloat16"))
    prompts = exact.prompter.prompts(people, poses, NOBODY)
    ((expected, _),) = exact.logits(exact.open([image]), [prompts])
    ((logits, _),) = quick.logits(quick.open([image]), [prompts])
    assert not torch.equal(logits, expected)
    assert (logits - expected).abs().mean() < 0.1 * expected.std()


@pytest.mark.slow
def test_a_checkpoint_is_loaded_strictly(tiny, tmp_path):
    network = build_sam1(tiny, "random")
    with torch.no_grad():
        network.mask_decoder.iou_token.weight.fill_(0.5)
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    assert (build_sam1(tiny, str(path)).mask_decoder.iou_token.weight == 0.5).all()
    state = network.state_dict()
    del state["image_encoder.pos_embed"]
    torch.save(state, path)
    with pytest.raises(UserError, match=r"1 missing: image_encoder\.pos_embed"):
        SAM1Segmenter(PosePrompter(), str(path), tiny)


def test_an_unknown_model_names_those_there_are():
    with pytest.raises(UserError, match=r"model 'vit_xl' does not exist; there is: .*vit_b, vit_h, vit_l"):
        SAM1Segmenter(PosePrompter(), "random", "vit_xl")


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(ImportError, match="pip install"):
        SAM1Segmenter(PosePrompter(), "random")


def test_it_is_registered():
    assert SEGMENTERS.get("SAM1Segmenter") is SAM1Segmenter


def test_no_warnings(tiny):
    people, poses = crowd(2, 40, 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter = SAM1Segmenter(PosePrompter(boxes=True), "random", tiny)
        segmenter.segment(segmenter.open([picture(40, 50)]), [people], [poses], [NOBODY])
