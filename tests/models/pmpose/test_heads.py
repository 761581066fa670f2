"""The probabilistic head: what it gives, how it averages, and that its losses train it."""

import math

import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample

from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.pmpose.codecs import OKSHeatmap
from bmp.models.pmpose.heads import BRANCHES, KeypointMaps, ProbabilisticHeatmapHead

_CODEC = {"type": "OKSHeatmap", "input_size": (192, 256), "heatmap_size": (48, 64)}


def _head(**changes):
    settings = {"in_channels": 8, "out_channels": 17, "deconv_out_channels": (8, 8), "decoder": _CODEC}
    torch.manual_seed(0)
    return MODELS.build({"type": "ProbabilisticHeatmapHead", **settings, **changes})


def _features(people=2):
    return (torch.randn(people, 8, 16, 12, generator=torch.Generator().manual_seed(1)),)


def test_everything_it_says_is_a_probability():
    head = _head().eval()
    with torch.no_grad():
        found = head(_features())
    assert found.heatmaps.shape == (2, 17, 64, 48)
    torch.testing.assert_close(found.heatmaps.sum((-2, -1)), torch.ones(2, 17), atol=1e-4, rtol=0)
    for values in found[:4]:
        assert values.min() >= 0
        assert values.max() <= 1
    for scalar in found[1:]:
        assert scalar.shape == (2, 17)
    assert found.expected_error.min() >= 0


def test_without_the_error_branch_everything_else_is_the_same():
    full, lean = _head().eval(), _head(with_error=False).eval()
    missing, surplus = lean.load_state_dict(full.state_dict(), strict=False)
    assert not missing
    assert {name.split(".")[0] for name in surplus} == {"error_layers"}
    with torch.no_grad():
        expected, found = full(_features()), lean(_features())
    assert found.expected_error is None
    for value, reference in zip(found[:4], expected[:4], strict=True):
        assert torch.equal(value, reference)


def test_normalize_scales_the_maps_and_one_stays_the_limit():
    with torch.no_grad():
        plain, doubled = (_head(normalize=factor).eval()(_features()).heatmaps for factor in (1.0, 1e6))
    assert torch.equal(doubled > 0, plain > 0)
    assert doubled.max() == 1


def test_mirroring_swaps_sides_and_columns():
    maps = torch.zeros(1, 3, 2, 4)
    maps[0, 1, 0, 0] = 1
    scalars = torch.tensor([[0.0, 1.0, 0.0]])
    straight = KeypointMaps(maps, scalars, scalars, scalars, None)
    mirrored_maps = torch.zeros(1, 3, 2, 4)
    mirrored_maps[0, 2, 0, 3] = 1
    swapped = torch.tensor([[0.0, 0.0, 0.5]])
    average = straight.averaged_with_mirrored(KeypointMaps(mirrored_maps, *[swapped] * 3, None), [0, 2, 1])
    assert torch.equal(average.heatmaps, maps)
    assert average.presence.tolist() == [[0, 0.75, 0]]
    assert average.expected_error is None


@pytest.mark.slow
def test_mmpose_gets_its_fields():
    head = _head().eval()
    sample = PoseDataSample(metainfo={"flip_indices": list(COCO_KEYPOINTS.flip_indices)})
    with torch.no_grad():
        predictions, fields = head.predict(
            [_features(), _features()], [sample] * 2, {"flip_test": True, "output_heatmaps": True}
        )
        found = head(_features())
        straight = head.predict(_features(), [sample] * 2)
    assert len(predictions) == len(fields) == 2
    assert fields[0].heatmaps.shape == (17, 64, 48)
    assert predictions[0].keypoints.shape == (1, 17, 2)
    for name in ("keypoint_scores", "keypoints_visible", "keypoints_probs", "keypoints_oks", "keypoints_error"):
        assert predictions[1][name].shape == (1, 17), name
    torch.testing.assert_close(torch.from_numpy(straight[1].keypoints_oks[0]), found.expected_oks[1])


def _samples(people=2):
    codec = OKSHeatmap((192, 256), (48, 64))
    samples = []
    for person in range(people):
        generator = torch.Generator().manual_seed(person)
        keypoints = (torch.rand(1, 17, 2, generator=generator) * torch.tensor([192.0, 256.0])).numpy()
        keypoints[0, 0] = -50
        flags = torch.randint(0, 3, (1, 17), generator=generator).numpy()
        encoded = codec.encode(keypoints, flags > 0, flags)
        sample = PoseDataSample(gt_fields=PixelData(heatmaps=encoded.pop("heatmaps")).to_tensor())
        sample.gt_instance_labels = InstanceData(**encoded).to_tensor()
        samples.append(sample)
    return samples


@pytest.mark.slow
def test_a_few_steps_lower_every_loss():
    head, samples, features = _head().train(), _samples(), _features()
    head.init_weights()
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    history = []
    for _ in range(40):
        losses = head.loss(features, samples)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert set(history[0]) == {"loss_kpt", "loss_presence", "loss_visibility", "loss_oks", "loss_error"}
    for name in history[0]:
        assert history[-1][name] < 0.8 * history[0][name], name


def test_unlabelled_keypoints_teach_nothing():
    head, samples = _head().train(), _samples(1)
    for name in ("keypoint_weights", "presence_weights", "visibility_weights"):
        samples[0].gt_instance_labels[name].zero_()
    losses = head.loss((torch.randn(2, 8, 16, 12),), samples * 2)
    assert sum(losses.values()).item() == 0


def test_a_right_and_sure_head_has_no_loss():
    samples = _samples(1)
    labels = samples[0].gt_instance_labels
    head = _head()
    maps = torch.zeros(1, 17, 64, 48)
    targets = samples[0].gt_fields.heatmaps[None]
    cells = targets.flatten(2).argmax(-1, keepdim=True)
    maps.flatten(2).scatter_(2, cells, 1.0)
    oks, error = head._achieved(maps, labels["keypoint_locations"])
    perfect = KeypointMaps(maps, labels["presence"], labels["visibility"], oks, error)
    head._read = lambda scores, features: perfect
    losses = head.loss(_features(1), samples)
    assert {name: pytest.approx(0, abs=1e-6) for name in losses} == {n: v.item() for n, v in losses.items()}


@pytest.mark.slow
def test_bfloat16_autocast_trains():
    head = _head().train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = head.loss(_features(), _samples())
    total = sum(losses.values())
    assert total.dtype == torch.float32
    total.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in head.parameters())


# A model section of the release in small: its names and arguments, not its widths.
def _published(head, codec, keypoints, **changes):
    return {
        "type": "TopdownPoseEstimator",
        "data_preprocessor": {
            "type": "PoseDataPreprocessor",
            "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375],
            "bgr_to_rgb": True,
        },
        "backbone": {
            "type": "mmpretrain.VisionTransformer",
            "arch": {"embed_dims": 48, "num_layers": 1, "num_heads": 3, "feedforward_channels": 48},
            "img_size": (256, 192),
            "patch_size": 16,
            "qkv_bias": True,
            "drop_path_rate": 0.1,
            "with_cls_token": False,
            "out_type": "featmap",
            "patch_cfg": {"padding": 2},
            "init_cfg": None,
        },
        "head": {
            "type": head,
            "in_channels": 48,
            "out_channels": keypoints,
            "deconv_out_channels": (8, 8),
            "deconv_kernel_sizes": (4, 4),
            "final_layer_dict": {"kernel_size": 1},
            "keypoint_loss": {"type": "OKSHeatmapLoss", "use_target_weight": True, "smoothing_weight": 0.05},
            "probability_loss": {"type": "BCELoss", "use_target_weight": True, "use_sigmoid": True},
            "visibility_loss": {"type": "BCELoss", "use_target_weight": True, "use_sigmoid": True},
            "oks_loss": {"type": "MSELoss", "use_target_weight": True},
            "error_loss": {"type": "L1LogLoss", "use_target_weight": True},
            "detach_probability": True,
            "detach_visibility": True,
            "normalize": 1.0,
            "freeze_error": True,
            "freeze_oks": False,
            "decoder": {"type": codec, "input_size": (192, 256), "heatmap_size": (48, 64), "sigma": -1},
            **changes,
        },
        "test_cfg": {"flip_test": True, "flip_mode": "heatmap", "shift_heatmap": False, "output_heatmaps": False},
    }


@pytest.mark.parametrize(
    ("head", "codec", "keypoints", "frozen", "decoder"),
    [
        ("MultiHead", "OKSArgMaxHeatmap", 23, True, "dark_udp"),
        ("ProbMapHead", "ProbMap", 17, False, "expected_oks"),
        ("ProbMapHead", "ArgMaxProbMap", 17, False, "dark_udp"),
    ],
)
def test_a_published_model_section_builds_unchanged(head, codec, keypoints, frozen, decoder):
    section = _published(head, codec, keypoints)
    if frozen:
        section["freeze_backbone"] = True
    with DefaultScope.overwrite_default_scope("mmpose"):
        model = MODELS.build(section)
    assert isinstance(model, TopdownPoseEstimator)
    assert isinstance(model.head, ProbabilisticHeatmapHead)
    assert model.head.decoder.decoder == decoder
    assert len(model.head.decoder.sigmas) == keypoints
    assert model.head.loss_module.smoothing_weight == 0.05
    learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {value for name, value in learns.items() if name.startswith("backbone")} == {not frozen}
    assert {value for name, value in learns.items() if name.startswith("head.error_layers")} == {False}
    assert all(value for name, value in learns.items() if name.startswith("head") and "error_layers" not in name)


@pytest.mark.parametrize("keypoints", [21, 23, 41])
def test_the_published_section_of_maskpose_builds_unchanged(keypoints):
    section = _published("HeatmapHead", "UDPHeatmap", keypoints)
    shared = ("type", "in_channels", "out_channels", "deconv_out_channels", "deconv_kernel_sizes")
    head = {name: section["head"][name] for name in shared}
    head["final_layer"] = {"kernel_size": 1}
    head["loss"] = {"type": "KeypointMSELoss", "use_target_weight": True}
    head["decoder"] = {"type": "UDPHeatmap", "input_size": (192, 256), "heatmap_size": (48, 64), "sigma": 2}
    with DefaultScope.overwrite_default_scope("mmpose"):
        model = MODELS.build({**section, "head": head})
    with torch.no_grad():
        maps = model.eval()(torch.zeros(1, 3, 256, 192), None, mode="tensor")
    assert maps.shape == (1, keypoints, 64, 48)


def test_the_published_names_build_the_same_network():
    published = MODELS.build(_published("ProbMapHead", "ProbMap", 17, in_channels=8)["head"])
    shapes = {name: value.shape for name, value in _head().state_dict().items()}
    assert {name: value.shape for name, value in published.state_dict().items()} == shapes


@pytest.mark.parametrize(("normalize", "sums_to_one"), [(1.0, True), (None, False)])
def test_without_a_factor_the_published_head_has_no_sparsemax(normalize, sums_to_one):
    head = MODELS.build(_published("MultiHead", "OKSArgMaxHeatmap", 17, in_channels=8, normalize=normalize)["head"])
    with torch.no_grad():
        maps = head.eval()(_features()).heatmaps
    assert ((maps >= 0) & (maps <= 1)).all()
    assert torch.allclose(maps.sum((-2, -1)), torch.ones(2, 17), atol=1e-4) == sums_to_one


@pytest.mark.slow
def test_a_frozen_estimate_of_the_oks_leaves_the_scores_to_the_maps():
    head = _published("MultiHead", "OKSArgMaxHeatmap", 17, in_channels=8, freeze_oks=True)["head"]
    frozen = MODELS.build(head).eval()
    sample = PoseDataSample(metainfo={"flip_indices": list(COCO_KEYPOINTS.flip_indices)})
    with torch.no_grad():
        predictions = frozen.predict(_features(), [sample] * 2)
        maps = frozen(_features()).heatmaps
    assert torch.from_numpy(predictions[0].keypoint_scores[0]).allclose(maps[0].amax((-2, -1)))


@pytest.mark.slow
@pytest.mark.parametrize("attached", [(), ("presence",), ("visibility",)])
def test_only_attached_branches_reach_the_features(attached):
    head, samples = _head(attached=attached).train(), _samples()
    for name in ("presence", "visibility", "oks", "error", "kpt"):
        features = _features()[0].requires_grad_()
        head.loss((features,), samples)[f"loss_{name}"].backward()
        assert (features.grad is not None and bool(features.grad.any())) == (name in (*attached, "kpt")), name


@pytest.mark.slow
@pytest.mark.parametrize("name", BRANCHES)
def test_a_frozen_part_has_no_loss_and_no_gradient(name):
    head, samples = _head(frozen=[name]).train(), _samples()
    losses = head.loss(_features(), samples)
    assert f"loss_{'kpt' if name == 'heatmaps' else name}" not in losses
    sum(losses.values()).backward()
    still = {key.split(".")[0] for key, parameter in head.named_parameters() if not parameter.requires_grad}
    layers = {"heatmaps": {"deconv_layers", "final_layer"}, "presence": {"probability_layers"}}
    assert still == layers.get(name, {f"{name}_layers"})
    assert all(parameter.grad is not None for parameter in head.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("option", ["attached", "frozen"])
def test_parts_that_do_not_exist(option):
    with pytest.raises(ValueError, match=f"{option}: there is no 'maps'; choose of"):
        _head(**{option: ["maps"]})


def test_hidden_and_visible_keypoints_weigh_the_same():
    samples = _samples(1)
    labels = samples[0].gt_instance_labels
    labels["visibility"] = torch.tensor([[1.0] * 12 + [0.0] * 5])
    labels["visibility_weights"] = torch.tensor([[1.0] * 11 + [0.0] + [1.0] * 3 + [0.0] * 2])  # 11 visible, 3 hidden
    head, plain = _head().train(), _head(balance_visibility=False).train()
    half = torch.full((1, 17), 0.5)
    seen = torch.tensor([[0.5] * 12 + [0.25] * 5])
    said = KeypointMaps(torch.zeros(1, 17, 64, 48), half, seen, half, torch.zeros(1, 17))
    for each in (head, plain):
        each._read = lambda scores, features: said
    visible, hidden = -math.log(0.5), -math.log(0.75)

    def loss(each):
        return each.loss(_features(1), samples)["loss_visibility"].item()

    assert loss(head) == pytest.approx((visible + hidden) / 2)
    assert loss(plain) == pytest.approx((11 * visible + 3 * hidden) / 14)
    labels["visibility_weights"] = torch.tensor([[1.0] * 12 + [0.0] * 5])  # nobody is hidden
    assert loss(head) == pytest.approx(visible)


def test_branches_may_be_narrower_than_the_features():
    wide, narrow = _head(), _head(branch_channels=4)
    assert wide.oks_layers[0].weight.shape == (8, 8, 3, 3)
    assert narrow.oks_layers[0].weight.shape == (4, 8, 3, 3)
    with torch.no_grad():
        assert narrow.eval()(_features()).presence.shape == (2, 17)
    assert wide.state_dict().keys() == narrow.state_dict().keys()


@pytest.mark.slow
def test_the_loss_of_the_scores_is_beside_the_others_and_changes_no_prediction():
    plain, more = _head(), _head(score_loss={"type": "SparsemaxLoss", "loss_weight": 3.0})
    assert plain.state_dict().keys() == more.state_dict().keys()
    features, samples = _features(), _samples()
    expected, losses = plain.train().loss(features, samples), more.train().loss(features, samples)
    assert losses.keys() - expected.keys() == {"loss_scores"}
    assert all(losses[name].item() == pytest.approx(value.item()) for name, value in expected.items())
    with torch.no_grad():
        assert torch.equal(plain.eval()(features).heatmaps, more.eval()(features).heatmaps)


@pytest.mark.slow
def test_the_loss_of_the_scores_does_not_depend_on_the_factor_of_the_maps():
    one, half = (_head(score_loss={"type": "SparsemaxLoss"}, normalize=factor) for factor in (1.0, 0.5))
    half.load_state_dict(one.state_dict())
    losses = [head.train().loss(_features(), _samples())["loss_scores"].item() for head in (one, half)]
    assert losses[0] == pytest.approx(losses[1])


@pytest.mark.slow
def test_maps_that_lost_their_targets_find_them_with_the_loss_of_the_scores():
    def steps(**changes):
        head, samples, features = _head(**changes).train(), _samples(), _features()
        head.init_weights()
        # Everything lies in the last cell from the start, whatever the features.
        push = torch.zeros(17, 64, 48)
        push[:, -1, -1] = 5
        scores = head._scores
        head._scores = lambda feats: scores(feats) + push
        optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
        history = []
        for _ in range(30):
            losses = head.loss(features, samples)
            history.append(losses["loss_kpt"].item())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
        return history

    stuck, freed = steps(), steps(score_loss={"type": "SparsemaxLoss"})
    assert stuck[-1] > 0.99 * stuck[0]
    assert freed[-1] < 0.9 * freed[0]
