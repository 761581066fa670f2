"""SAM 2.1 against sam2's own predictor, on a shrunk network with made-up weights; the full sizes are slow."""

import json
import subprocess
import sys
import textwrap
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from prompt_fakes import NOBODY, PosePrompter, crowd, hide, pad, picture

from bmp.errors import UserError
from bmp.registry import SEGMENTERS
from bmp.structures import Detections, Poses

pytest.importorskip("sam2", reason="the package sam2 is not installed")

import tiny_models

from bmp.models.compute import dtype_of
from bmp.models.sam2 import SAM2Network, build_sam2
from bmp.segmenters.sam2 import SAM2NetworkSegmenter, SAM2Segmenter

SIDE = tiny_models.SAM_SIDE


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return tiny_models.sam2_config(tmp_path_factory.mktemp("sam2"))


def predictor(model, image):
    """sam2's own, with the same made-up weights."""
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it uses torch.jit.script
        own = SAM2ImagePredictor(build_sam2(model, "random"))
    side = own.model.image_size // 4
    own._bb_feat_sizes = [(side, side), (side // 2, side // 2), (side // 4, side // 4)]
    own.set_image(image.pixels.numpy())
    return own


def raw(prompter, model, **options):
    """A segmenter that leaves the network's masks as they are."""
    return SAM2Segmenter(prompter, "random", model, hole_area=0, speck_area=0, **options)


def assert_equal_to_predictor(model, image, prompter, people, poses):
    segmenter = raw(prompter, model)
    (masks,) = segmenter.segment(segmenter.open([image]), [people], [poses], [NOBODY])
    own = predictor(model, image)
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
        assert masks.scores[row].item() == pytest.approx(iou[0], abs=1e-5)


@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize(
    ("height", "width"),
    [(37, 91), *[pytest.param(*size, marks=pytest.mark.slow) for size in ((128, 128), (301, 150), (1, 40))]],
)
def test_masks_equal_those_of_the_predictor(tiny, height, width, boxes):
    people, poses = crowd(5, height, width)
    assert_equal_to_predictor(tiny, picture(height, width), PosePrompter(boxes=boxes), people, poses)


@pytest.mark.slow
def test_an_answer_to_no_point_at_all_is_that_of_the_predictor(tiny):
    """What the release does with people who have no keypoint to prompt with."""
    image = picture(75, 91)
    people, poses = crowd(2, 75, 91)
    poses = hide(poses, 1, 0, 1, 2)
    segmenter = raw(PosePrompter(), tiny, without_prompts="unprompted")
    (masks,) = segmenter.segment(segmenter.open([image]), [people], [poses], [NOBODY])
    logits, iou, _ = predictor(tiny, image).predict(
        np.zeros((0, 2), np.float32), np.zeros(0, np.int32), multimask_output=False, return_logits=True
    )
    certain = torch.from_numpy(logits[0]).abs() > 1e-5
    assert torch.equal(masks.bits[1][certain], (torch.from_numpy(logits[0]) > 0)[certain])
    assert masks.scores[1].item() == pytest.approx(iou[0], abs=1e-5)


@pytest.mark.parametrize("boxes", [pytest.param(False, marks=pytest.mark.slow), True])
def test_corrections_equal_those_of_the_predictor(tiny, boxes):
    """Asked with one point, three masks to choose from; then with more points and the logits of the answer before."""
    image = picture(75, 91)
    people, poses = crowd(3, 75, 91)
    segmenter, own = raw(PosePrompter(), tiny), predictor(tiny, image)
    views = segmenter.open([image])
    previous, own_previous = None, [None] * len(people)
    for count in (1, 2, 3):
        prompts = PosePrompter(count + 1, boxes=boxes).prompts(people, poses, NOBODY)
        prompts = replace(prompts, labels=prompts.labels.clone().index_fill_(1, torch.tensor([count]), -1))
        ((logits, scores),) = segmenter.logits(views, [prompts], previous, multimask=count == 1)
        previous = [logits * 1000]  # beyond what the network is given
        for row in range(len(people)):
            masks, ious, low = own.predict(
                prompts.points[row, :count].numpy(),
                prompts.labels[row, :count].numpy(),
                None if prompts.boxes is None else prompts.boxes[row].numpy(),
                mask_input=own_previous[row],
                multimask_output=count == 1,
                return_logits=True,
            )
            best = ious.argmax()
            expected = torch.from_numpy(masks[best])
            large = segmenter._enlarge(logits[[row]], 75, 91)[0]
            torch.testing.assert_close(large, expected, atol=1e-4, rtol=1e-4)
            assert scores[row].item() == pytest.approx(ious[best], abs=1e-5)
            own_previous[row] = (torch.from_numpy(low[[best]]) * 1000).clamp(-32, 32).numpy()
    ((uncorrected, _),) = segmenter.logits(views, [prompts])
    assert not torch.allclose(logits, uncorrected, atol=1e-3)


@pytest.mark.slow
def test_masks_equal_those_of_the_predictor_at_full_size(shared, tmp_path):
    """On 1024 x 1024 pixels; the network is as shrunk as elsewhere."""
    from bmp.io.images import load

    image = load(shared / "data" / "ochuman_mini" / "000817.jpg")
    people, poses = crowd(3, image.height, image.width)
    assert_equal_to_predictor(tiny_models.sam2_config(tmp_path, 1024), image, PosePrompter(boxes=True), people, poses)


@pytest.mark.slow
def test_preprocessing_is_the_predictors(tiny):
    image = picture(75, 211)
    (view,) = raw(PosePrompter(), tiny).open([image])
    own = predictor(tiny, image)._features
    assert torch.equal(view.features[-1], own["image_embed"])
    for feature, expected in zip(view.features[:-1], own["high_res_feats"], strict=True):
        assert torch.equal(feature, expected)


@pytest.mark.slow
def test_padding_changes_nothing_though_it_would_change_the_network(tiny):
    people, poses = crowd(3, 60, 80)
    segmenter = raw(PosePrompter(), tiny)
    views = segmenter.open([picture(60, 80)])
    prompts = segmenter.prompter.prompts(people, poses, NOBODY)
    ((plain, plain_scores),) = segmenter.logits(views, [prompts])
    for front, back in ((0, 1), (2, 3)):
        padded = pad(prompts, front, back)
        ((same, same_scores),) = segmenter.logits(views, [padded])
        assert torch.equal(plain, same)
        assert torch.equal(plain_scores, same_scores)
        features = tuple(feature.expand(3, -1, -1, -1) for feature in views[0].features)
        scaled = segmenter._scaled(views[0], padded)
        other, _, _ = segmenter.network.decode(features, scaled.points, scaled.labels)
        assert not torch.allclose(plain, other[:, 0], atol=1e-4)
        overlooked, _ = segmenter._decode(features, scaled)
        torch.testing.assert_close(overlooked, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("boxes", [False, True])
def test_people_with_fewer_points_are_decoded_with_the_others(tiny, boxes):
    people, poses = crowd(4, 60, 80)
    segmenter = raw(PosePrompter(boxes=boxes), tiny, prompt_chunk=10)
    prompts = segmenter.prompter.prompts(people, hide(hide(poses, 2, 0), 0, 0, 1), NOBODY)
    views, decoded = segmenter.open([picture(60, 80)]), []
    hook = segmenter.network.mask_decoder.register_forward_pre_hook(
        lambda _, args, kwargs: decoded.append(len(kwargs["image_embeddings"])), with_kwargs=True
    )
    ((logits, scores),) = segmenter.logits(views, [prompts])
    ((corrected, _),) = segmenter.logits(views, [prompts], [logits])
    assert decoded == [4, 4]
    hook.remove()
    for row in range(4):
        ((alone, score),) = segmenter.logits(views, [prompts[[row]]])
        torch.testing.assert_close(logits[[row]], alone, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(scores[[row]], score, atol=1e-5, rtol=1e-4)
        ((alone, _),) = segmenter.logits(views, [prompts[[row]]], [logits[[row]]])
        torch.testing.assert_close(corrected[[row]], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("pads", [False, True])
def test_images_of_other_batches_are_decoded_together(tiny, pads):
    images = [picture(60, 80, seed=1), picture(33, 97, seed=2), picture(150, 40, seed=3)]
    people, poses = zip(*(crowd(2, i.height, i.width, seed=i.width) for i in images), strict=True)
    poses = (poses[0], hide(poses[1], 0, 0), poses[2])
    segmenter = raw(PosePrompter(), tiny, image_batch=2, prompt_chunk=4)
    segmenter._pads = pads
    together = segmenter.segment(segmenter.open(images), people, poses, [NOBODY] * 3)
    for row, masks in zip(zip(images, people, poses, strict=True), together, strict=True):
        alone = raw(PosePrompter(), tiny, prompt_chunk=1)
        prompts = alone.prompter.prompts(row[1], row[2], NOBODY)
        views = alone.open([row[0]])
        ((logits, scores),) = alone.logits(views, [prompts])
        certain = alone._enlarge(logits, row[0].height, row[0].width).abs() > 1e-5
        (expected,) = alone.segment(views, [row[1]], [row[2]], [NOBODY])
        assert torch.equal(masks.bits[certain], expected.bits[certain])
        torch.testing.assert_close(masks.scores, scores)


@pytest.mark.slow
def test_the_encoder_runs_once_an_image(tiny):
    segmenter = raw(PosePrompter(), tiny, image_batch=2)
    seen = []
    segmenter.network.image_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    views = segmenter.open([picture(40 + i, 50) for i in range(3)])
    for seed in (1, 2):
        people, poses = zip(*(crowd(2, 40, 50, seed=seed) for _ in range(3)), strict=True)
        segmenter.segment(views, people, poses, [NOBODY] * 3)
    assert seen == [2, 1]


def test_positions_are_made_once_for_each_size(tiny, monkeypatch):
    segmenter = raw(PosePrompter(), tiny)
    encoder, made = segmenter.network.image_encoder, []
    kind = type(encoder.trunk)
    original = kind._get_pos_embed
    monkeypatch.setattr(kind, "_get_pos_embed", lambda trunk, size: made.append(size) or original(trunk, size))
    with torch.inference_mode():
        first, again = (segmenter.network.encode(torch.ones(1, 3, 128, 128))[0] for _ in range(2))
    assert torch.equal(first, again)
    assert len(made) == 1
    with torch.no_grad():
        segmenter.network.encode(torch.ones(1, 3, 96, 64))
    assert len(made) == 2


def test_nobody(tiny):
    segmenter = raw(PosePrompter(), tiny)
    (masks,) = segmenter.segment(segmenter.open([picture(5, 9)]), [Detections.empty()], [Poses.empty(17)], [NOBODY])
    assert masks.bits.shape == (0, 5, 9)


@pytest.mark.slow
def test_bfloat16_moves_edges_only(tiny):
    people, poses = crowd(4, 100, 120)
    image = picture(100, 120)
    exact, quick = (raw(PosePrompter(), tiny, dtype=dtype) for dtype in ("float32", "bfloat16"))
    prompts = exact.prompter.prompts(people, poses, NOBODY)
    views = quick.open([image])
    assert {feature.dtype for feature in views[0].features} <= {torch.bfloat16, torch.float32}
    ((expected, _),) = exact.logits(exact.open([image]), [prompts])
    ((logits, scores),) = quick.logits(views, [prompts])
    assert logits.dtype == scores.dtype == torch.float32
    assert not torch.equal(logits, expected)
    assert (logits - expected).abs().mean() < 0.1 * expected.std()


@pytest.mark.slow
def test_made_up_weights_are_the_same_each_time_and_leave_the_generator_alone(tiny, instantiate_anew, monkeypatch):
    monkeypatch.setattr("hydra.utils.instantiate", instantiate_anew)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, second = build_sam2(tiny, "random"), build_sam2(tiny, "random")
    assert torch.equal(state, torch.random.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not first.training


@pytest.mark.slow
def test_a_checkpoint_is_loaded_strictly(tiny, tmp_path):
    people, poses = crowd(2, 40, 50)
    network = build_sam2(tiny, "random")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    path = tmp_path / "weights.pt"
    torch.save({"model": network.state_dict()}, path)
    loaded = SAM2Segmenter(PosePrompter(), str(path), tiny)
    assert torch.equal(loaded.network.no_memory.flatten(), network.no_mem_embed.flatten())
    made_up = raw(PosePrompter(), tiny)
    prompts = loaded.prompter.prompts(people, poses, NOBODY)
    assert not torch.allclose(
        loaded.logits(loaded.open([picture(40, 50)]), [prompts])[0][0],
        made_up.logits(made_up.open([picture(40, 50)]), [prompts])[0][0],
    )
    state = network.state_dict()
    del state["memory_encoder.out_proj.weight"]
    torch.save({"model": state}, path)
    with pytest.raises(UserError, match=r"1 missing: memory_encoder\.out_proj\.weight"):
        SAM2Segmenter(PosePrompter(), str(path), tiny)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("model", "name"), [("t", "hiera_tiny"), ("b+", "hiera_base_plus"), ("l", "hiera_large")])
def test_the_networks_have_the_tensors_of_the_official_checkpoints(model, name, shared):
    file = shared / "reference" / "checkpoints" / f"sam2.1_{name}.json"
    expected = json.loads(file.read_text())["state_dict"]
    network = build_sam2(f"sam2.1_hiera_{model}", "random")
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == expected


NANO = "models/sam2_nano.yaml"


@pytest.mark.slow
def test_the_nano_model_is_of_its_size_and_segments():
    network = build_sam2(NANO, "random")
    assert 2.4e6 < sum(parameter.numel() for parameter in network.image_encoder.parameters()) < 2.6e6
    segmenter, shapes = SAM2Segmenter(PosePrompter(), "random", NANO), []
    segmenter.network.image_encoder.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    people, poses = crowd(3, 75, 91)
    views = segmenter.open([picture(75, 91)])
    assert shapes == [(1, 3, 320, 320)]
    (masks,) = segmenter.segment(views, [people], [poses], [NOBODY])
    assert masks.bits.shape == (3, 75, 91)
    assert ((masks.scores >= 0) & (masks.scores <= 1)).all()
    ((logits, _),) = segmenter.logits(views, [masks.prompts])
    assert logits.shape == (3, 80, 80)
    assert logits.std() > 0


@pytest.mark.slow
def test_weights_of_the_nano_model_survive_their_export(tmp_path):
    from bmp.checkpoints.saving import export

    network = build_sam2(NANO, "random")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    torch.save({"state_dict": network.state_dict()}, tmp_path / "trained.pth")
    file = tmp_path / "nano.safetensors"
    export(tmp_path / "trained.pth", file, {"config": "a test"})
    assert file.stat().st_size < 2.1 * sum(tensor.numel() for tensor in network.state_dict().values())
    loaded = SAM2Segmenter(PosePrompter(), str(file), NANO)
    for part, own in (("image_encoder", "image_encoder"), ("prompt_encoder", "sam_prompt_encoder")):
        state = getattr(network, own).state_dict()
        for name, tensor in getattr(loaded.network, part).state_dict().items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, state[name].half().float()), name
    people, poses = crowd(3, 75, 91)
    prompts = loaded.prompter.prompts(people, poses, NOBODY)
    answers = [
        segmenter.logits(segmenter.open([picture(75, 91)]), [prompts])[0][0]
        for segmenter in (
            loaded,
            SAM2NetworkSegmenter(PosePrompter(), SAM2Network(network, torch.float32)),
            raw(PosePrompter(), NANO),
        )
    ]
    assert (answers[0] - answers[1]).abs().mean() < 0.02 * answers[1].std()
    assert (answers[2] - answers[1]).abs().mean() > 0.1 * answers[1].std()


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_a_network_that_there_is_gives_what_its_checkpoint_gives(tiny, dtype):
    people, poses = crowd(3, 60, 80)
    network, images = build_sam2(tiny, "random"), [picture(60, 80)]
    options = dict(image_batch=2, prompt_chunk=2, hole_area=3, speck_area=5)
    own = SAM2NetworkSegmenter(PosePrompter(), SAM2Network(network, dtype_of(dtype)), **options)
    expected = SAM2Segmenter(PosePrompter(), "random", tiny, dtype=dtype, **options)
    assert own.network.image_encoder is network.image_encoder
    assert (own.image_batch, own.prompt_chunk, own.hole_area, own.speck_area) == (2, 2, 3, 5)
    (masks,), (same,) = (each.segment(each.open(images), [people], [poses], [NOBODY]) for each in (own, expected))
    assert torch.equal(masks.bits, same.bits)
    assert torch.equal(masks.scores, same.scores)


def test_an_unknown_model_names_those_there_are():
    with pytest.raises(
        UserError, match=r"model 'hiera_xl' does not exist; there is: sam2\.1_hiera_b\+, sam2\.1_hiera_l"
    ):
        SAM2Segmenter(PosePrompter(), "random", "hiera_xl")


def test_without_sam2_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sam2", None)
    with pytest.raises(ImportError, match="pip install"):
        SAM2Segmenter(PosePrompter(), "random")


def test_it_is_registered():
    assert SEGMENTERS.get("SAM2Segmenter") is SAM2Segmenter


@pytest.mark.slow
def test_hydra_and_training_are_left_alone(tmp_path):
    """In a process of its own, since sam2 takes hydra's global slot when it is first imported."""
    (tmp_path / "user.yaml").write_text("answer: 42")
    program = """
        import sys
        from hydra import compose, initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra
        from prompt_fakes import PosePrompter
        from bmp.models.sam2 import _import_sam2
        from bmp.segmenters.sam2 import SAM2Segmenter

        assert "sam2" not in sys.modules and "hydra" in sys.modules
        _import_sam2()
        assert "sam2" in sys.modules and not GlobalHydra.instance().is_initialized()
        with initialize_config_dir(sys.argv[1], version_base=None):
            _import_sam2()
            assert compose("user").answer == 42
        assert "training" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", textwrap.dedent(program), str(tmp_path)],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_warnings(tiny):
    people, poses = crowd(2, 40, 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter = SAM2Segmenter(PosePrompter(boxes=True), "random", tiny, hole_area=10, speck_area=50)
        segmenter.segment(segmenter.open([picture(40, 50)]), [people], [poses], [NOBODY])
