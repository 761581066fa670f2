"""SAM 2's losses against numbers computed by hand, and their gradients."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from bmp.errors import UserError
from bmp.training.segmenter.losses import (
    Prediction,
    SAMLoss,
    dice_loss,
    focal_loss,
    iou_loss,
    object_score_loss,
)

LOG3 = math.log(3)  # the logit of 3/4
TRUTH = torch.tensor([[[True, True], [False, False]]])


def logits_of(*rows):
    """One person's masks of 2 x 2 logits."""
    return torch.tensor(rows, dtype=torch.float32).reshape(1, -1, 2, 2)


@pytest.mark.parametrize(
    ("probability", "on_truth", "expected"),
    [
        # alpha of what the ground truth holds, 1 - alpha of the rest; (1 - p)² of what was said to be right with p
        (0.5, True, 0.25 * 0.25 * math.log(2)),
        (0.5, False, 0.75 * 0.25 * math.log(2)),
        (0.75, True, 0.25 * 0.0625 * math.log(4 / 3)),
        (0.75, False, 0.75 * 0.5625 * math.log(4)),
        (0.25, True, 0.25 * 0.5625 * math.log(4)),
        (0.25, False, 0.75 * 0.0625 * math.log(4 / 3)),
    ],
)
def test_focal_loss_of_a_pixel(probability, on_truth, expected):
    logits = torch.full((1, 1, 1, 1), math.log(probability / (1 - probability)))
    assert focal_loss(logits, torch.tensor([[[on_truth]]])).item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_is_the_mean_over_the_pixels_of_each_mask():
    logits = logits_of([0, 0, 0, 0], [LOG3, 0, -LOG3, 0])
    half = math.log(2) / 4
    first = (2 * 0.25 + 2 * 0.75) * half / 4
    second = (0.25 * math.log(4 / 3) / 16 + 0.25 * half + 0.75 * math.log(4 / 3) / 16 + 0.75 * half) / 4
    assert focal_loss(logits, TRUTH)[0].tolist() == pytest.approx([first, second], rel=1e-5)


def test_focal_loss_has_its_two_numbers():
    logits = logits_of([LOG3] * 4)
    assert focal_loss(logits, TRUTH, alpha=0.5, gamma=0.0).item() == pytest.approx(
        0.5 * F.binary_cross_entropy_with_logits(logits[0], TRUTH.float()).item(), rel=1e-5
    )


@pytest.mark.parametrize(
    ("logits", "ground_truth", "expected"),
    [
        ([0, 0, 0, 0], TRUTH, 1 - (2 * 1 + 1) / (2 + 2 + 1)),
        ([LOG3, LOG3, -LOG3, -LOG3], TRUTH, 1 - (2 * 1.5 + 1) / (2 + 2 + 1)),
        ([LOG3, -LOG3, LOG3, LOG3], TRUTH, 1 - (2 * 1.0 + 1) / (2.5 + 2 + 1)),
        ([99, 99, -99, -99], TRUTH, 0),
        ([-99, -99, 99, 99], TRUTH, 1 - 1 / 5),
        ([-99] * 4, torch.zeros_like(TRUTH), 0),
        ([-99] * 4, TRUTH, 1 - 1 / 3),
        ([99] * 4, torch.zeros_like(TRUTH), 1 - 1 / 5),
    ],
)
def test_dice_loss(logits, ground_truth, expected):
    assert dice_loss(logits_of(logits), ground_truth).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("logits", "ground_truth", "predicted", "expected"),
    [
        ([1, 1, -1, -1], TRUTH, 0.75, 0.25),
        ([1, -1, -1, -1], TRUTH, 0.75, 0.25),
        ([1, -1, 1, -1], TRUTH, 0.0, 1 / 3),
        ([-1, -1, 1, 1], TRUTH, 0.5, 0.5),
        ([0, 0, 0, 0], TRUTH, 0.25, 0.25),  # a logit of 0 is not the person
        ([-1] * 4, torch.zeros_like(TRUTH), 0.25, 0.25),
    ],
)
def test_iou_loss(logits, ground_truth, predicted, expected):
    ious = torch.tensor([[predicted]])
    assert iou_loss(logits_of(logits), ious, ground_truth).item() == pytest.approx(expected, abs=1e-6)


def test_object_score_loss():
    present = torch.tensor([True, False])
    scores = torch.tensor([[LOG3], [LOG3]])
    assert object_score_loss(scores, present).tolist() == pytest.approx([math.log(4 / 3), math.log(4)], rel=1e-5)


def test_rows_are_people_and_columns_masks():
    generator = torch.Generator().manual_seed(0)
    logits, ious = torch.randn(3, 4, 5, 6, generator=generator), torch.rand(3, 4, generator=generator)
    ground_truth = torch.rand(3, 5, 6, generator=generator) > 0.5
    losses = (
        lambda logits, _, ground_truth: focal_loss(logits, ground_truth),
        lambda logits, _, ground_truth: dice_loss(logits, ground_truth),
        iou_loss,
    )
    for loss in losses:
        together = loss(logits, ious, ground_truth)
        assert together.shape == (3, 4)
        alone = loss(logits[1:2, 2:3], ious[1:2, 2:3], ground_truth[1:2])
        assert alone.item() == pytest.approx(together[1, 2].item(), rel=1e-5)


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [focal_loss, dice_loss])
def test_gradients_of_masks(loss):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    ground_truth = torch.rand(2, 3, 4, generator=generator) > 0.5
    assert torch.autograd.gradcheck(lambda logits: loss(logits, ground_truth), logits)


def test_gradients_of_iou_and_object_score():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    ious = torch.rand(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(2, 1, generator=generator, dtype=torch.float64, requires_grad=True)
    ground_truth = torch.rand(2, 3, 4, generator=generator) > 0.5
    ground_truth[1] = False
    assert torch.autograd.gradcheck(lambda ious: iou_loss(logits.detach(), ious, ground_truth), ious)
    assert torch.autograd.gradcheck(lambda scores: object_score_loss(scores, ground_truth[:, 0, 0]), scores)
    iou_loss(logits, ious, ground_truth).sum().backward()
    assert logits.grad is None  # an area has no gradient


# --- all of them -----------------------------------------------------------------------------------------------------

GOOD, FAIR, POOR = [2, 2, -2, -2], [1, 1, 1, -2], [-2, -2, 2, 2]


def prediction(*masks, ious=None, score=1.0):
    return Prediction(
        logits_of(*masks).requires_grad_(),
        torch.tensor([ious or [0.5] * len(masks)]).requires_grad_(),
        torch.tensor([[score]]).requires_grad_(),
    )


def parts(mask, ground_truth=TRUTH):
    return focal_loss(logits_of(mask), ground_truth).item(), dice_loss(logits_of(mask), ground_truth).item()


def test_a_single_mask():
    focal, dice = parts(FAIR)
    losses = SAMLoss()([prediction(FAIR, ious=[0.5], score=LOG3)], TRUTH)
    assert {name: loss.item() for name, loss in losses.items()} == {
        "loss_focal": pytest.approx(20 * focal),
        "loss_dice": pytest.approx(dice),
        "loss_iou": pytest.approx(2 / 3 - 0.5),
        "loss_object_score": pytest.approx(math.log(4 / 3)),
    }


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_of_several_masks_the_best_counts_and_all_ious_do(order):
    masks, ious = [[GOOD, FAIR, POOR][i] for i in order], [[0.9, 0.5, 0.3][i] for i in order]
    asked = prediction(*masks, ious=ious)
    losses = SAMLoss()([asked], TRUTH)
    focal, dice = parts(GOOD)
    assert losses["loss_focal"].item() == pytest.approx(20 * focal)
    assert losses["loss_dice"].item() == pytest.approx(dice)
    assert losses["loss_iou"].item() == pytest.approx((0.1 + (2 / 3 - 0.5) + 0.3) / 3)
    sum(losses.values()).backward()
    best = order.index(0)
    assert [bool(gradient.any()) for gradient in asked.logits.grad[0]] == [i == best for i in range(3)]
    assert asked.ious.grad[0].tolist() == pytest.approx([(-1, -1, 1)[i] / 3 for i in order])
    assert asked.object_scores.grad.item() == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item() - 1)


def test_the_best_mask_is_that_of_the_weighted_sum():
    narrow, wide = [4, -4, -4, -4], [0.4, 0.4, 0.3, 0.3]  # one has the better focal loss, the other the better dice
    (narrow_focal, narrow_dice), (wide_focal, wide_dice) = parts(narrow), parts(wide)
    assert narrow_focal > wide_focal
    assert narrow_dice < wide_dice
    for focal, expected in ((0.5, narrow_dice), (20.0, wide_dice)):
        assert (focal * narrow_focal + narrow_dice < focal * wide_focal + wide_dice) == (focal == 0.5)
        losses = SAMLoss(focal=focal)([prediction(narrow, wide)], TRUTH)
        assert losses["loss_dice"].item() == pytest.approx(expected)


def test_predictions_add_up_and_people_are_averaged():
    first, second = prediction(GOOD, FAIR, POOR), prediction(FAIR)
    ground_truth = torch.cat([TRUTH, ~TRUTH])
    both = [
        Prediction(*(torch.cat([getattr(one, field), getattr(one, field)]) for field in vars(one)))
        for one in (first, second)
    ]
    together = SAMLoss()(both, ground_truth)
    alone = [SAMLoss()([one], mask[None]) for one in (first, second) for mask in ground_truth]
    for name, loss in together.items():
        assert loss.item() == pytest.approx(sum(each[name].item() for each in alone) / 2)


def test_weights():
    names = {"focal": 2.0, "dice": 3.0, "iou": 4.0, "object_score": 5.0}
    plain = SAMLoss(1, 1, 1, 1)([prediction(FAIR)], TRUTH)
    weighted = SAMLoss(**names)([prediction(FAIR)], TRUTH)
    assert {name: (weighted[f"loss_{name}"] / plain[f"loss_{name}"]).item() for name in names} == pytest.approx(names)


def test_of_nobody_only_the_object_score_counts():
    asked = prediction(GOOD, FAIR, POOR, score=LOG3)
    losses = SAMLoss()([asked], torch.zeros_like(TRUTH))
    assert losses["loss_object_score"].item() == pytest.approx(math.log(4))
    assert [losses[f"loss_{name}"].item() for name in ("focal", "dice", "iou")] == [0, 0, 0]
    sum(losses.values()).backward()
    assert not asked.logits.grad.any()
    assert not asked.ious.grad.any()


def test_no_people_at_all():
    logits = torch.zeros(0, 3, 2, 2, requires_grad=True)
    nobody = Prediction(logits, torch.zeros(0, 3), torch.zeros(0, 1))
    losses = SAMLoss()([nobody, nobody], torch.zeros(0, 4, 4, dtype=torch.bool))
    assert [loss.item() for loss in losses.values()] == [0, 0, 0, 0]
    sum(losses.values()).backward()
    assert logits.grad.shape == logits.shape


def test_logits_are_scaled_up_to_the_truth():
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(2, 1, 4, 4, generator=generator, requires_grad=True)
    ground_truth = torch.rand(2, 12, 20, generator=generator) > 0.5
    rest = torch.rand(2, 1, generator=generator), torch.randn(2, 1, generator=generator)
    losses = SAMLoss()([Prediction(small, *rest)], ground_truth)
    large = F.interpolate(small, (12, 20), mode="bilinear", align_corners=False)
    expected = SAMLoss()([Prediction(large, *rest)], ground_truth)
    assert {name: loss.item() for name, loss in losses.items()} == {
        name: pytest.approx(loss.item()) for name, loss in expected.items()
    }
    losses["loss_focal"].backward()
    assert small.grad.abs().min() > 0


def test_masks_are_compared_by_squares():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 5, generator=generator) > 0.5
    fine = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)
    fine[:, ::4, ::4] ^= True  # of 16 pixels one is wrong
    rest = torch.rand(2, 3, generator=generator), torch.randn(2, 1, generator=generator)
    asked = Prediction(torch.randn(2, 3, 3, 5, generator=generator), *rest)
    losses, expected = SAMLoss(stride=4)([asked], fine), SAMLoss()([asked], coarse)
    assert {name: loss.item() for name, loss in losses.items()} == {
        name: pytest.approx(loss.item()) for name, loss in expected.items()
    }


def test_a_speck_is_present_in_whatever_squares_masks_are_compared():
    ground_truth = torch.zeros(1, 8, 8, dtype=torch.bool)
    ground_truth[0, 3, 3] = True
    asked = Prediction(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1), torch.tensor([[LOG3]]))
    losses = SAMLoss(stride=4)([asked], ground_truth)
    assert losses["loss_object_score"].item() == pytest.approx(math.log(4 / 3))
    assert losses["loss_dice"].item() > 0


def test_squares_without_side():
    with pytest.raises(UserError, match="stride of at least 1"):
        SAMLoss(stride=0)


def test_the_loss_is_in_float32_whatever_the_network_computes_in():
    asked = prediction(GOOD, FAIR, POOR)
    half = Prediction(*(getattr(asked, field).detach().bfloat16() for field in vars(asked)))
    with torch.autocast("cpu", torch.bfloat16):
        losses = SAMLoss()([half], TRUTH)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    expected = SAMLoss()([asked], TRUTH)  # its numbers are exact in bfloat16
    assert torch.stack([*losses.values()]).tolist() == pytest.approx(torch.stack([*expected.values()]).tolist())


@pytest.mark.slow
def test_following_the_gradient_leads_to_the_truth():
    ground_truth = torch.zeros(1, 8, 8, dtype=torch.bool)
    ground_truth[:, 2:6, 3:7] = True
    asked = Prediction(*(torch.zeros(shape, requires_grad=True) for shape in ((1, 3, 8, 8), (1, 3), (1, 1))))
    tensors = [asked.logits, asked.ious, asked.object_scores]
    optimizer = torch.optim.Adam(tensors, lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        sum(SAMLoss()([asked], ground_truth).values()).backward()
        optimizer.step()
    best = asked.logits[0, 0]  # of three equal masks the first is chosen, and stays the best
    assert torch.equal(best > 0, ground_truth[0])
    assert asked.ious[0, 0].item() == pytest.approx(1, abs=0.15)
    assert asked.ious[0, 1:].max() < 0.15  # masks that nobody improved are known to be bad
    assert asked.object_scores.item() > 2
