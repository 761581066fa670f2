"""Fine-tuning against SAM 2's own training code, the folder ``training`` of the package sam2."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

pytest.importorskip("sam2", reason="the package sam2 is not installed")
pytest.importorskip("training.loss_fns", reason="SAM 2's training code, or what it needs, is not installed")
pytest.importorskip("fvcore", reason="fvcore, which SAM 2's training code needs, is not installed")

import sam2
import tiny_models
from fvcore.common.param_scheduler import CosineParamScheduler
from mmengine.dist import all_reduce
from mmengine.optim import CosineAnnealingLR, build_optim_wrapper
from omegaconf import OmegaConf
from sam2.modeling.sam2_utils import sample_random_points_from_errors
from torchvision.transforms.v2 import ColorJitter
from training import loss_fns
from training.model.sam2 import SAM2Train
from training.optimizer import construct_optimizer

from bmp.config import load_config
from bmp.models.sam2 import build_sam2
from bmp.segmenters.point_sampling import Keypoints, MaskRefine
from bmp.training.segmenter import losses as own_losses
from bmp.training.segmenter import optim  # noqa: F401 - registers SAM2Parameters
from bmp.training.segmenter.data import Augmentation, PosedMasks, recolour
from bmp.training.segmenter.losses import Prediction, SAMLoss
from bmp.training.segmenter.model import PoseSAM

SAM2_RECIPE = Path(sam2.__path__[0]) / "configs/sam2.1_training/sam2.1_hiera_b+_MOSE_finetune.yaml"
SIDE = tiny_models.SAM_SIDE
WEIGHTS = {"loss_mask": 20, "loss_dice": 1, "loss_iou": 1, "loss_class": 1}
NAMES = {"loss_mask": "focal", "loss_dice": "dice", "loss_iou": "iou", "loss_class": "object_score"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return tiny_models.sam2_config(tmp_path_factory.mktemp("sam2"))


def seeing(network, score=5.0):
    """Let the network be sure that somebody is there, or with a low score that nobody is."""
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(score)
    return network


@pytest.fixture(scope="module")
def posesam(tiny):
    return seeing(PoseSAM(tiny, "random", MaskRefine(corrections=3), trainable="all", dtype="float32").train())


@pytest.fixture(scope="module")
def sam2train(tiny):
    """SAM 2's network in training, with the same weights."""
    from hydra.utils import instantiate

    config = OmegaConf.load(tiny)
    config.model._target_ = "training.model.sam2.SAM2Train"
    config.model.forward_backbone_per_frame_for_eval = True
    config.model.num_correction_pt_per_frame = 3
    config.model.prob_to_use_pt_input_for_train = 1.0
    network = instantiate(config.model)
    network.load_state_dict(build_sam2(tiny, "random").state_dict())
    assert isinstance(network, SAM2Train)
    return seeing(network.train())


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def sam2_loss(**options):
    return loss_fns.MultiStepMultiMasksAndIous(
        dict(WEIGHTS), supervise_all_iou=True, iou_use_l1_loss=True, pred_obj_scores=True, **options
    )


def sam2_frame(predictions):
    """What SAM2Train gives its loss of a frame."""
    return {
        "multistep_pred_multimasks_high_res": [prediction.logits for prediction in predictions],
        "multistep_pred_ious": [prediction.ious for prediction in predictions],
        "multistep_object_score_logits": [prediction.object_scores for prediction in predictions],
    }


def squares(*corners):
    masks = torch.zeros(len(corners), SIDE, SIDE, dtype=torch.bool)
    for mask, (x, y) in zip(masks, corners, strict=True):
        mask[y : y + 40, x : x + 30] = True
    return masks


def test_the_losses_are_sam2s(generator):
    """One mask, three, somebody who is not there, and logits of all sizes; gradients too."""
    ground_truth = torch.rand(4, 24, 20, generator=generator) < 0.4
    ground_truth[2] = False
    predictions = [
        Prediction(
            (torch.randn(4, count, 24, 20, generator=generator) * scale).requires_grad_(),
            torch.rand(4, count, generator=generator).requires_grad_(),
            torch.randn(4, 1, generator=generator).requires_grad_(),
        )
        for count, scale in ((3, 1.0), (1, 5.0), (1, 0.1), (3, 20.0))
    ]
    leaves = [tensor for prediction in predictions for tensor in vars(prediction).values()]
    expected = sam2_loss()([sam2_frame(predictions)], ground_truth[None])
    result = SAMLoss()(predictions, ground_truth)
    for name, own in NAMES.items():
        torch.testing.assert_close(result[f"loss_{own}"], WEIGHTS[name] * expected[name], rtol=1e-5, atol=1e-6)
    total = sum(result.values())
    torch.testing.assert_close(total, expected["core_loss"], rtol=1e-5, atol=1e-6)
    theirs = torch.autograd.grad(expected["core_loss"], leaves)
    for gradient, other in zip(torch.autograd.grad(total, leaves), theirs, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-7)


def test_people_of_all_processes_count_alike(generator, monkeypatch):
    """Of two processes with 1 and 5 people, each divides by 3, as SAM 2's do."""
    monkeypatch.setattr(own_losses, "all_reduce", lambda total, how: total.fill_(3.0) if how == "mean" else None)
    monkeypatch.setattr(loss_fns, "is_dist_avail_and_initialized", lambda: True)
    monkeypatch.setattr(loss_fns, "get_world_size", lambda: 2)
    monkeypatch.setattr(loss_fns.torch.distributed, "all_reduce", lambda total: total.fill_(6.0))
    ground_truth = torch.rand(1, 8, 8, generator=generator) < 0.5
    scores = torch.randn(1, 1, generator=generator)
    prediction = Prediction(torch.randn(1, 1, 8, 8, generator=generator), torch.rand(1, 1, generator=generator), scores)
    expected = sam2_loss()([sam2_frame([prediction])], ground_truth[None])["core_loss"]
    people = own_losses.mean_people(1)
    assert people == 3
    torch.testing.assert_close(sum(SAMLoss()([prediction], ground_truth, people).values()), expected)


def test_alone_a_process_counts_its_own_people():
    assert all_reduce(torch.ones(()), "mean") is None
    assert own_losses.mean_people(5) == 5
    assert own_losses.mean_people(0) == 1


@pytest.mark.slow
@pytest.mark.parametrize("appears", [True, False])
@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("scale", [None, 1.0, 100.0])
def test_the_decoder_answers_as_sam2s_heads_do(scale, multimask, appears, posesam, sam2train, generator):
    """With a previous mask and without, whose logits may be extreme, and where the network sees nobody."""
    features = [torch.randn(3, channels, side, side, generator=generator) for channels, side in ((8, 32), (16, 16))]
    embedding = torch.randn(3, 64, 8, 8, generator=generator)
    points = torch.rand(3, 2, 2, generator=generator) * SIDE
    labels = torch.tensor([[1, 0], [1, 1], [1, -1]], dtype=torch.int8)
    previous = None if scale is None else torch.randn(3, 32, 32, generator=generator) * scale
    for network in (posesam, sam2train):
        seeing(network, 50.0 if appears else -50.0)
    try:
        with torch.no_grad():
            own = posesam.decode([*features, embedding], points + 0.5, labels, previous, multimask)
            low, _, ious, *_, scores = sam2train._forward_sam_heads(
                embedding,
                {"point_coords": points, "point_labels": labels.int()},
                None if previous is None else previous[:, None],
                features,
                multimask,
            )
    finally:
        for network in (posesam, sam2train):
            seeing(network)
    assert own.logits.shape == (3, 3 if multimask else 1, 32, 32)
    assert ((own.logits == -1024).all() if not appears else (own.logits > -1024).all()).item()
    torch.testing.assert_close(own.logits, low)
    torch.testing.assert_close(own.ious, ious)
    torch.testing.assert_close(own.object_scores, scores)


class Told:
    """A sampler that gives the points SAM 2's has drawn."""

    corrections = 3

    def __init__(self, drawn):
        self._drawn = iter(drawn)
        self.predictions = []

    def first(self, *_):
        return next(self._drawn)

    def correct(self, ground_truth, prediction, *_):
        self.predictions.append(prediction)
        return next(self._drawn)


@pytest.mark.slow
def test_a_whole_step_gives_sam2s_losses_and_gradients(posesam, sam2train, generator, monkeypatch):
    """Two images with two people and one, a point and three corrections, image encoder included."""
    images = torch.randint(0, 255, (2, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    masks = squares((10, 10), (60, 50), (40, 70))
    drawn, predicted = [], []

    def draw(gt_masks, pred_masks, method):
        points, labels = sample_random_points_from_errors(gt_masks, pred_masks)
        # Ours are in the middle of a pixel, half a pixel from where SAM 2's have it.
        drawn.append((points + 0.5, labels.to(torch.int8)))
        predicted.append(pred_masks)
        return points, labels

    monkeypatch.setattr(sys.modules["training.model.sam2"], "get_next_point", draw)
    monkeypatch.setattr(sam2train, "prob_to_sample_from_gt_for_train", 0.0)
    # The memory for the next frame, of which there is none.
    monkeypatch.setattr(sam2train, "_encode_memory_in_output", lambda *_: None)
    for network in (posesam, sam2train):
        network.zero_grad()
        network.requires_grad_(True)
    data = posesam.data_preprocessor(
        {
            "inputs": list(images),
            "data_samples": [
                PosedMasks(masks[:2], Keypoints.none(2)),
                PosedMasks(masks[2:], Keypoints.none(1)),
            ],
        },
        True,
    )
    frames = SimpleNamespace(
        flat_img_batch=data["inputs"],
        num_frames=1,
        masks=masks[None],
        flat_obj_to_img_idx=torch.tensor([[0, 0, 1]]),
    )
    (outputs,) = sam2train(frames)
    expected = sam2_loss()([outputs], masks[None])
    expected["core_loss"].backward()
    told = Told(drawn)
    monkeypatch.setattr(posesam, "sampler", told)
    result = posesam(**data, mode="loss")
    sum(result.values()).backward()
    for name, own in NAMES.items():
        torch.testing.assert_close(result[f"loss_{own}"], WEIGHTS[name] * expected[name], rtol=1e-4, atol=1e-5)
    for own, theirs in zip(told.predictions, predicted[1:], strict=True):
        assert torch.equal(own, theirs[:, 0])
    theirs = dict(sam2train.named_parameters())
    compared = 0
    for name, parameter in posesam.named_parameters():
        if parameter.grad is not None and parameter.grad.abs().max() > 0:
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-2, atol=1e-5, msg=name)
            compared += 1
    assert compared > 100
    posesam._choose_trained()


@pytest.mark.parametrize("case", ["missed", "spilled", "both", "perfect", "empty ground truth", "everything"])
def test_points_are_drawn_from_where_sam2_draws_them(case, generator):
    """The same pixels, the same labels, and all of them as often."""
    ground_truth = torch.zeros(1, 5, 6, dtype=torch.bool)
    ground_truth[0, 1:4, 1:4] = case != "empty ground truth"
    prediction = ground_truth.clone()
    if case in ("missed", "both"):
        prediction[0, 1] = False
    if case in ("spilled", "both"):
        prediction[0, 4, :2] = True
    if case == "everything":
        ground_truth[:], prediction[:] = True, False
    many, others = ground_truth.expand(4000, -1, -1), prediction.expand(4000, -1, -1)
    torch.manual_seed(0)
    theirs, their_labels = sample_random_points_from_errors(many[:, None], others[:, None])
    own, labels = MaskRefine(ground_truth_probability=0.0).correct(many, others, Keypoints.none(4000), generator)
    cells = [
        (points[:, 0, 1].long() * 6 + points[:, 0, 0].long()) * 2 + label[:, 0].long()
        for points, label in ((own - 0.5, labels), (theirs, their_labels))
    ]
    counts, expected = (numbers.bincount(minlength=60).float() / 4000 for numbers in cells)
    assert torch.equal(counts > 0, expected > 0)
    torch.testing.assert_close(counts, expected, rtol=0, atol=0.045)


def named_rates(optimizer, model):
    """Learning rate and weight decay of each parameter by its name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def sam2_optimizer(model, trainable):
    """The optimizer of SAM 2's fine-tuning, made by its own code from its own config."""
    OmegaConf.register_new_resolver("divide", lambda number, by: number / by, replace=True)
    recipe = OmegaConf.load(SAM2_RECIPE).trainer.optim
    if trainable == "decoder":  # what matches no parameter is an error
        del recipe.options.lr[1]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return construct_optimizer(
        model, recipe.optimizer, recipe.options, recipe.param_group_modifiers, trained, validate_param_groups=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["decoder", "all"])
def test_each_parameter_has_sam2s_learning_rate_and_weight_decay(trainable, posesam, instantiate_anew, monkeypatch):
    monkeypatch.setattr("hydra.utils.instantiate", instantiate_anew)
    monkeypatch.setattr(posesam, "trainable", trainable)
    posesam._choose_trained()
    config = dict(
        constructor="SAM2Parameters",
        optimizer=dict(type="AdamW", lr=5e-6, weight_decay=0.1),
        paramwise_cfg=dict(encoder_rate=0.6, layer_decay=0.9),
    )
    own = named_rates(build_optim_wrapper(posesam, config).optimizer, posesam)
    theirs = named_rates(sam2_optimizer(posesam, trainable).optimizer, posesam)
    assert own.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert own[name] == pytest.approx(expected, rel=1e-9), name
    norms = [name for name, module in posesam.named_modules() if type(module).__name__ == "LayerNorm2d"]
    assert {own[f"{name}.weight"][1] for name in norms if f"{name}.weight" in own} == {0.1}
    assert (len(set(own.values())) > 10) == (trainable == "all")


def test_the_learning_rates_curve_is_sam2s_at_every_step():
    """The schedule of train/sam_pose2seg_b+.py, for epochs of seven steps, against SAM 2's for its fine-tuning."""
    config = load_config("train/sam_pose2seg_b+.py")
    rate, epochs, length = config.optim_wrapper.optimizer.lr, config.train_cfg.max_epochs, 7
    optimizer = torch.optim.AdamW([{"params": nn.Linear(2, 2).parameters()}], lr=rate)
    (schedule,) = config.param_scheduler
    arguments = {key: value for key, value in schedule.items() if key not in ("type", "convert_to_iter_based")}
    scheduler = CosineAnnealingLR.build_iter_from_epoch(optimizer, **arguments, epoch_length=length)
    expected = CosineParamScheduler(rate, rate / 10)
    for step in range(epochs * length):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected(step / (epochs * length)), rel=1e-6)
        optimizer.step()
        scheduler.step()


@pytest.mark.slow
def test_colours_are_changed_as_by_sam2s_transforms(monkeypatch):
    """The same jitters with the same ranges in the same order, and some images lose their colours in between."""
    from training.dataset import transforms

    recipe = OmegaConf.load(SAM2_RECIPE).vos.train_transforms[0].transforms
    steps = [step for step in recipe if step["_target_"].rsplit(".")[-1] in ("ColorJitter", "RandomGrayscale")]
    ranges = []

    class Noted(ColorJitter):
        def __init__(self, *arguments):
            ranges.append(arguments)
            super().__init__(*arguments)

        def forward(self, image):
            ranges.append("jitter")
            return image

    monkeypatch.setattr("bmp.training.segmenter.data.ColorJitter", Noted)
    monkeypatch.setattr(
        "bmp.training.segmenter.data.rgb_to_grayscale", lambda image, **_: ranges.append("grey") or image
    )
    augmentation = Augmentation(grey=1.0)
    recolour(torch.zeros(3, 4, 4, dtype=torch.uint8), augmentation)
    expected = []
    for step in steps:
        if "p" in step:
            assert step.p == Augmentation().grey
            expected.append("grey")
        else:
            expected += [(step.brightness, step.contrast, step.saturation), "jitter"]
    assert ranges == expected
    theirs = transforms.ColorJitter(True, 0.1, 0.03, 0.03, None)
    own = Noted(0.1, 0.03, 0.03)
    for name in ("brightness", "contrast", "saturation"):
        assert tuple(getattr(own, name)) == pytest.approx(tuple(getattr(theirs, name)))
