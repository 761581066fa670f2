"""SAM 2.1 in training, on a shrunk network with made-up weights."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prompt_fakes import NOBODY, crowd, picture

from bmp.errors import UserError
from bmp.structures import Prompts

pytest.importorskip("sam2", reason="the package sam2 is not installed")

import tiny_models
from mmengine.optim import build_optim_wrapper

from bmp.datasets.posed import PosedImage
from bmp.evaluation.pose_to_mask import segment_poses
from bmp.models.sam2 import build_sam2
from bmp.segmenters.detected import DetectedMasks
from bmp.segmenters.mask_prompted import MaskPromptedSegmenter
from bmp.segmenters.point_sampling import Keypoints, MaskRefine, MaxVisibilityPoints, PoseMaskRefine
from bmp.segmenters.prompted import mask_prompt
from bmp.segmenters.prompting import MaxVisibility
from bmp.segmenters.sam2 import SAM2Segmenter
from bmp.training.segmenter import optim  # noqa: F401 - registers SAM2Parameters
from bmp.training.segmenter.data import PosedMasks
from bmp.training.segmenter.model import PoseSAM

SIDE = tiny_models.SAM_SIDE
REFINE = PoseMaskRefine(corrections=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return tiny_models.sam2_config(tmp_path_factory.mktemp("sam2"))


@pytest.fixture(scope="module")
def network(tiny):
    """Made-up weights that see somebody everywhere: nobody's mask gets no gradient."""
    network = build_sam2(tiny, "random")
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(5.0)
    return network


@pytest.fixture
def posesam(tiny, network, monkeypatch):
    """Makes models whose network, always the same one, is not built anew each time."""
    monkeypatch.setattr("bmp.training.segmenter.model.build_sam2", lambda *_: copy.deepcopy(network))
    return lambda sampler=REFINE, **options: PoseSAM(tiny, "random", sampler, **options).train()


def people(count, seed=0, known=17):
    """Squares with keypoints in them, of which so many are available, the first ones the most visible."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    points = torch.zeros(count, 17, 2)
    for row, (x, y) in enumerate(torch.randint(0, SIDE // 2, (count, 2), generator=generator).tolist()):
        masks[row, y : y + 50, x : x + 40] = True
        points[row] = torch.tensor([x, y]) + torch.rand(17, 2, generator=generator) * torch.tensor([40, 50])
    visibility = torch.linspace(1, 0.1, 17).expand(count, -1)
    available = (torch.arange(17) < known).expand(count, -1)
    return PosedMasks(masks, Keypoints(points, visibility, available))


def batch(*samples, seed=0):
    inputs = torch.randint(0, 255, (len(samples), 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
    return {"inputs": list(inputs.to(torch.uint8)), "data_samples": list(samples)}


def losses(model, data, seed=0):
    torch.manual_seed(seed)
    return model(**model.data_preprocessor(data, True), mode="loss")


def total(model, data, seed=0):
    return sum(losses(model, data, seed).values())


def optimizer(model, **options):
    config = dict(constructor="SAM2Parameters", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.1, **options))
    return build_optim_wrapper(model, config)


@pytest.mark.parametrize("trainable", ["decoder", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.parametrize("sampler", [dict(type="MaskRefine", corrections=2), REFINE, MaxVisibilityPoints(3)])
def test_all_that_is_trained_gets_a_gradient(sampler, trainable, posesam):
    """Several processes wait for each of them."""
    model = posesam(sampler, trainable=trainable)
    result = losses(model, batch(people(2), people(1, seed=1)))
    assert set(result) == {"loss_focal", "loss_dice", "loss_iou", "loss_object_score"}
    sum(result.values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    parts = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    decoder = {"sam_prompt_encoder", "sam_mask_decoder"}
    assert parts == (decoder if trainable == "decoder" else decoder | {"image_encoder", "no_mem_embed"})


@pytest.mark.slow
def test_the_encoder_is_the_same_after_training(posesam):
    model = posesam()
    images = torch.rand(1, 3, SIDE, SIDE)
    before, embeddings = copy.deepcopy(model.state_dict()), model.encode(images)
    wrapper = optimizer(model)
    values = []
    for _ in range(4):
        log = model.train_step(batch(people(2)), wrapper)
        values.append(float(log["loss"].detach()))
    changed = {
        name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"sam_prompt_encoder", "sam_mask_decoder"}
    for level, old in zip(model.encode(images), embeddings, strict=True):
        assert torch.equal(level, old)
    assert not model.image_encoder.training
    assert model.sam_mask_decoder.training
    assert values[-1] < values[0]


@pytest.mark.slow
def test_the_encoder_learns_where_all_is_trained(posesam):
    model = posesam(trainable="all")
    before = copy.deepcopy(model.image_encoder.state_dict())
    model.train_step(batch(people(2)), optimizer(model))
    assert not torch.equal(model.image_encoder.trunk.patch_embed.proj.weight, before["trunk.patch_embed.proj.weight"])
    assert model.image_encoder.training


def test_weight_decay_spares_biases_and_the_normalisation_of_tokens(posesam):
    groups = optimizer(model := posesam()).optimizer.param_groups
    assert len(groups) == 2
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    named = {name: decays[id(parameter)] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert named["sam_mask_decoder.transformer.layers.0.norm1.weight"] == 0
    assert named["sam_mask_decoder.output_upscaling.1.weight"] == 0.1  # of images: SAM 2's LayerNorm2d
    assert named["sam_mask_decoder.conv_s0.bias"] == 0
    assert named["sam_mask_decoder.conv_s0.weight"] == 0.1
    assert named["sam_mask_decoder.mask_tokens.weight"] == 0.1
    assert len(decays) == len(named)


@pytest.mark.parametrize("options", [{"encoder_rate": 0}, {"layer_decay": -1}, {"lr_mult": 2}])
def test_rates_that_make_no_sense_are_refused(options, posesam):
    with pytest.raises(UserError, match=r"paramwise_cfg: expected encoder_rate and layer_decay above 0, got \{"):
        build_optim_wrapper(
            posesam(), dict(constructor="SAM2Parameters", optimizer=dict(type="AdamW", lr=1e-3), paramwise_cfg=options)
        )


@pytest.mark.slow
def test_who_is_not_there_has_no_mask_in_training(posesam):
    model = posesam()
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(-50.0)
    result = losses(model, batch(people(2)))
    # Everything but the object score is the same for any mask that is not there.
    gradients = torch.autograd.grad(
        result["loss_focal"], model.sam_mask_decoder.output_upscaling.parameters(), allow_unused=True
    )
    assert all(gradient is None or not gradient.any() for gradient in gradients)
    segmenter = model.segmenter()
    ((logits, _),) = segmenter.logits(
        segmenter.open([picture(SIDE, SIDE)]),
        [Prompts(torch.ones(1, 1, 2), torch.ones(1, 1, dtype=torch.int8), torch.zeros(1, 1, dtype=torch.int64))],
    )
    assert (logits > -1024).all()


@pytest.mark.slow
def test_positions_are_encoded_once_and_follow_what_is_loaded_or_moved(posesam):
    model, calls = posesam(), []
    encode = model.sam_prompt_encoder.get_dense_pe
    model.sam_prompt_encoder.get_dense_pe = lambda: calls.append(1) or encode()
    data = batch(people(2), people(1))
    with torch.inference_mode():
        losses(model, data)
    assert len(calls) == 1
    total(model, data).backward()
    segmenter = model.segmenter()
    segmenter.segment(segmenter.open([picture(5, 9)]), *([rows] for rows in (*crowd(2, 5, 9), NOBODY)))
    assert len(calls) == 1
    before = total(model, data).detach()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights["sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] *= 2
    model.load_state_dict(weights)
    assert not torch.equal(total(model, data).detach(), before)
    assert len(calls) == 2
    del model.sam_prompt_encoder.get_dense_pe
    copied = copy.deepcopy(model)
    model.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in weights.items()})
    other = posesam()
    other.load_state_dict(weights)
    assert torch.equal(total(copied, data), total(other, data))
    moved = model.to("meta")._network
    assert (moved._positions.device.type, moved.device.type) == ("meta", "meta")


@pytest.mark.slow
def test_an_image_is_encoded_once_however_many_people_it_has(posesam):
    model, seen = posesam(), []
    model.image_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    losses(model, batch(people(3), people(1)))
    assert seen == [2]


class Spy:
    """Notes the predictions that it is shown."""

    corrections = 3

    def __init__(self):
        self.shown = []

    def first(self, *arguments):
        return MaskRefine().first(*arguments)

    def correct(self, ground_truth, prediction, keypoints, generator):
        self.shown.append(prediction)
        return MaskRefine().correct(ground_truth, prediction, keypoints, generator)


@pytest.mark.slow
def test_points_are_added_one_by_one_and_a_single_one_may_mean_three_masks(posesam, monkeypatch):
    spy = Spy()
    model, calls = posesam(spy), []
    decode = model.decode

    def noted(features, points, labels, previous, multimask):
        answer = decode(features, points, labels, previous, multimask)
        calls.append((points, labels, previous, multimask, answer))
        return answer

    monkeypatch.setattr(model, "decode", noted)
    losses(model, batch(people(2), people(1)))
    assert [call[0].shape for call in calls] == [(3, count, 2) for count in (1, 2, 3, 4)]
    assert [call[3] for call in calls] == [True, False, False, False]
    assert [call[4].logits.shape[1] for call in calls] == [3, 1, 1, 1]
    assert calls[0][2] is None
    for earlier, later, shown in zip(calls[:-1], calls[1:], spy.shown, strict=True):
        assert torch.equal(later[0][:, :-1], earlier[0])
        answer = earlier[4]
        best = answer.logits[torch.arange(3), answer.ious.argmax(1)]
        assert torch.equal(later[2], best)
        assert later[2].requires_grad
        full = torch.nn.functional.interpolate(best[:, None], (SIDE, SIDE), mode="bilinear")[:, 0] > 0
        assert torch.equal(shown, full)


@pytest.mark.slow
def test_some_first_predictions_correct_a_detectors_mask(posesam, monkeypatch):
    model, calls = posesam(MaskRefine(corrections=1), starts=0.5), []
    decode = model.decode

    def noted(features, points, labels, previous, multimask):
        calls.append((points.shape[:2], None if previous is None else previous.detach(), multimask))
        return decode(features, points, labels, previous, multimask)

    monkeypatch.setattr(model, "decode", noted)
    crowded, without = people(40), people(40, seed=1)
    undetected = torch.zeros_like(crowded.masks[:1])
    shifted = torch.cat([undetected, crowded.masks[1:].roll(3, dims=2)])
    losses(model, batch(replace(crowded, starts=shifted), without))
    (alone, none, may_mean_three), _, (corrected, starts, means_one), _ = calls
    assert none is None
    assert may_mean_three
    assert not means_one
    assert alone[0] + corrected[0] == 80
    assert 10 <= corrected[0] <= 30  # of the 39 who were detected, each with a chance of its own
    assert starts.unique().numel() > 2
    allowed = mask_prompt(shifted, tuple(starts.shape[1:]))
    assert all((allowed[1:] == start).flatten(1).all(1).any() for start in starts)


@pytest.mark.slow
def test_starts_do_not_matter_where_they_are_not_asked_for(posesam):
    crowded = people(3)
    model = posesam(MaskRefine(corrections=1))
    with_starts = total(model, batch(replace(crowded, starts=crowded.masks)))
    assert torch.equal(with_starts, total(model, batch(crowded)))


def test_trained_with_starts_it_is_tested_with_them(posesam):
    segmenter = posesam(MaxVisibilityPoints(3), starts=1.0).segmenter()
    assert isinstance(segmenter, MaskPromptedSegmenter)
    assert isinstance(segmenter.start, DetectedMasks)


@pytest.mark.slow
def test_people_with_fewer_points_are_decoded_without_padding(posesam):
    model = posesam(MaxVisibilityPoints(3), dtype="float32")
    both, one = people(2), people(1, seed=1, known=1)
    # the same pixels for both pictures of a batch, so that only the people differ
    data = batch(both, one)
    data["inputs"] = [data["inputs"][0]] * 2
    mixed = total(model, data)
    apart = [total(model, batch(own)) for own in (both, one)]
    torch.testing.assert_close(mixed, (2 * apart[0] + apart[1]) / 3)


@pytest.mark.slow
def test_the_seed_of_the_program_decides(posesam):
    model, data = posesam(MaskRefine(corrections=2)), batch(people(2))
    assert total(model, data, seed=1) == total(model, data, seed=1)
    assert total(model, data, seed=1) != total(model, data, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_network_is_asked_as_the_segmenter_asks_it(dtype, posesam, tiny):
    """Without augmentation a sample's keypoints are half a pixel further than the points of a prompt."""
    model = posesam(dtype=dtype).eval()
    image = picture(SIDE, SIDE)
    segmenter = SAM2Segmenter(MaxVisibility(3), "random", tiny, dtype=dtype, hole_area=0, speck_area=0)
    points = (torch.rand(2, 3, 2) * SIDE * 64).floor() / 64  # half a pixel more and less is then exact
    labels = torch.ones(2, 3, dtype=torch.int8)
    prompts = Prompts(points, labels, torch.zeros(2, 3, dtype=torch.int64))
    ((expected, scores),) = segmenter.logits(segmenter.open([image]), [prompts])
    data = model.data_preprocessor({"inputs": [image.pixels.permute(2, 0, 1)], "data_samples": []}, True)
    features = [level.expand(2, -1, -1, -1) for level in model.features(model.encode(data["inputs"]))]
    with torch.no_grad():
        answer = model.decode(features, points + 0.5, labels)
    torch.testing.assert_close(answer.logits[:, 0], expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(answer.ious[:, 0], scores, rtol=1e-3, atol=1e-3)


def posed(height, width, seed=0):
    boxes, poses = crowd(3, height, width, seed)
    rows = [{"id": 10 * seed + row, "image_id": seed} for row in range(3)]
    return PosedImage(picture(height, width, seed), rows, boxes, poses)


@pytest.mark.slow
def test_checkpoints_of_both_kinds_are_those_of_a_segmenter(posesam, tiny, tmp_path):
    model = posesam(test=dict(hole_area=3, speck_area=5, prompter=MaxVisibility(2)))
    model.train_step(batch(people(2)), optimizer(model))
    model.eval()
    images = [posed(60, 80, 1), posed(33, 97, 2)]
    own = model(images, None, "predict")
    assert [[row["id"] for row in rows] for rows in own] == [[10, 11, 12], [20, 21, 22]]
    torch.save({"model": model.state_dict()}, tmp_path / "official.pt")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "mmengine.pth")
    for file in ("official.pt", "mmengine.pth"):
        loaded = SAM2Segmenter(MaxVisibility(2), str(tmp_path / file), tiny, hole_area=3, speck_area=5)
        assert list(segment_poses([images], loaded)) == own[0] + own[1]
    made_up = SAM2Segmenter(MaxVisibility(2), "random", tiny, hole_area=3, speck_area=5)
    assert list(segment_poses([images], made_up)) != own[0] + own[1]


def test_weights_have_the_names_and_values_of_sam2s_own_network(tiny):
    model, network = PoseSAM(tiny, "random", REFINE), build_sam2(tiny, "random")
    own, official = model.state_dict(), network.state_dict()
    assert list(own) == list(official)
    assert all(torch.equal(own[name], tensor) for name, tensor in official.items())


@pytest.mark.slow
def test_parts_that_start_afresh_forget_their_weights_and_others_do_not(network, monkeypatch):
    learnt = copy.deepcopy(network)
    for tensor in learnt.parameters():
        tensor.data += 1
    made = {"random": network, "learnt.pt": learnt}
    monkeypatch.setattr(
        "bmp.training.segmenter.model.build_sam2", lambda _, checkpoint: copy.deepcopy(made[checkpoint])
    )
    own = PoseSAM("tiny", "learnt.pt", REFINE, fresh=["sam_mask_decoder"]).state_dict()
    for name, tensor in own.items():
        source = network if name.startswith("sam_mask_decoder.") else learnt
        assert torch.equal(tensor, source.state_dict()[name]), name
    with pytest.raises(UserError, match="fresh: the network has no 'decoder'"):
        PoseSAM("tiny", "learnt.pt", REFINE, fresh=["decoder"])


@pytest.mark.slow
def test_a_cached_image_is_not_encoded_again_and_the_losses_stay(posesam, tmp_path):
    model, seen = posesam(cache=tmp_path), []
    model.image_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    data = batch(
        *(PosedMasks(own.masks, own.keypoints, key) for own, key in ((people(2), "aa1"), (people(1, seed=1), "bb2")))
    )
    first = losses(model, data)
    again = losses(model, data)
    assert seen == [2]
    assert first == again
    other = batch(people(2), PosedMasks(*(vars(people(1, seed=1))[name] for name in ("masks", "keypoints")), "cc3"))
    other["data_samples"][0] = data["data_samples"][0]
    losses(model, other)
    assert seen == [2, 1]
    assert len(list(Path(tmp_path).rglob("*.safetensors"))) == 3
    for name, loss in losses(posesam(), data).items():
        torch.testing.assert_close(loss, first[name], rtol=0.02, atol=0.02)
    with pytest.raises(UserError, match="cache: augmented images are never the same again; train with augment=None"):
        losses(model, batch(people(1)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainable": "encoder"}, "trainable: expected 'decoder' or 'all', got 'encoder'"),
        ({"trainable": "all", "cache": "x"}, "cache: embeddings change while the image encoder is trained"),
        ({"starts": 1.5}, r"starts: expected a chance in \[0, 1\], got 1.5"),
        ({"dtype": "float16"}, "dtype: expected one of float32, bfloat16"),
        ({"sampler": {"type": "MaskRefined"}}, "there is no point sampler 'MaskRefined'; did you mean 'MaskRefine'"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message, posesam):
    with pytest.raises(UserError, match=message):
        posesam(**options)


def test_images_of_another_size_say_which_it_should_be(posesam):
    data = batch(people(1))
    data["inputs"] = [image[:, :64, :64] for image in data["inputs"]]
    with pytest.raises(UserError, match=r"the network takes 128x128 pixels, got 64x64; set size=128"):
        losses(posesam(), data)


@pytest.mark.slow
def test_bfloat16_is_near(posesam):
    exact, quick = (posesam(MaxVisibilityPoints(3), dtype=dtype) for dtype in ("float32", "bfloat16"))
    expected, result = (total(model, batch(people(2))) for model in (exact, quick))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=0.1, atol=0.1)
    result.backward()
    assert {p.grad.dtype for p in quick.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.slow
def test_its_segmenter_shares_the_weights(posesam):
    model = posesam()
    segmenter = model.segmenter()
    assert segmenter.network.mask_decoder is model.sam_mask_decoder
    (masks,) = segmenter.segment(segmenter.open([picture(5, 9)]), *([rows] for rows in (*crowd(2, 5, 9), NOBODY)))
    assert masks.bits.shape == (2, 5, 9)
