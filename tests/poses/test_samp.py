"""SAMP as a stage: conditioning, whom the crop estimator gets, and the encoder that the weights belong to."""

import pytest
import torch
from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll, scene
from prompt_fakes import picture
from safetensors.torch import save_file

from bmp import BMP, UserError
from bmp.label_sets import KeypointSet
from bmp.models.samp import samp_network
from bmp.poses.crops import Windows, crop_masks
from bmp.poses.samp import SAMPose
from bmp.structures import Detections, Poses

SMALL = dict(level_channels=(64, 64, 64), crop=(32, 32), channels=8, stem_channels=(4, 8, 8, 8))


class Encoder:
    """Levels that tell where they are, as large as the tiny SAM's."""

    side, fingerprint = 128, "12" * 32

    def __init__(self):
        self.seen = []

    def levels(self, images):
        self.seen += images
        generator = torch.Generator().manual_seed(3)
        return [tuple(torch.randn(1, 64, size, size, generator=generator) for size in (32, 16, 8)) for _ in images]


def people_of(*boxes, masks=None):
    return Detections(torch.tensor(boxes, dtype=torch.float32), torch.ones(len(boxes)), masks)


@pytest.fixture
def weights(tmp_path):
    network = samp_network(SMALL)
    network.fingerprint = Encoder.fingerprint
    with torch.no_grad():
        for block in (*network.adapter.with_details, *network.adapter.with_coarser):
            block.scale.fill_(1.0)
        network.heads[0].weight.normal_()
    file = tmp_path / "samp.safetensors"
    save_file(network.state_dict(), file)
    return str(file)


def test_images_without_people_are_not_encoded(weights):
    encoder = Encoder()
    pose = SAMPose(encoder, weights, SMALL)
    images = [picture(40, 50), picture(30, 30)]
    none, some = pose.estimate(images, [Detections.empty(), people_of((2, 2, 20, 28))])
    assert encoder.seen == [images[1]]
    assert (len(none), len(some)) == (0, 1)
    assert some.expected_oks is not None


@pytest.mark.slow
def test_chunks_change_nothing(weights):
    images = [picture(40, 50), picture(30, 30)]
    people = [people_of(*[(i, i, 20 + i, 28 + i) for i in range(4)]), people_of((2, 2, 20, 28))]
    whole, parts = (SAMPose(Encoder(), weights, SMALL, batch_size=size).estimate(images, people) for size in (32, 3))
    for one, two in zip(whole, parts, strict=True):
        torch.testing.assert_close(one.keypoints, two.keypoints, atol=1e-3, rtol=0)
        torch.testing.assert_close(one.visibility, two.visibility)


def test_the_mask_tells_of_two_people_in_one_place_whom_the_pose_is_of(weights):
    image = picture(40, 50)
    masks = torch.zeros(3, 40, 50, dtype=torch.bool)
    masks[0, :, :25], masks[1, :, 25:] = True, True  # the third has none: an empty mask counts as none
    box = (5.0, 5.0, 45.0, 38.0)
    (poses,) = SAMPose(Encoder(), weights, SMALL).estimate([image], [people_of(box, box, box, masks=masks)])
    (bare,) = SAMPose(Encoder(), weights, SMALL).estimate([image], [people_of(box)])
    assert not torch.equal(poses.presence[0], poses.presence[1])
    torch.testing.assert_close(poses.presence[2], bare.presence[0])


def test_masks_are_cut_where_pixels_are():
    masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    masks[0, 5:15, 10:20] = True
    windows = Windows(torch.tensor([[14.5, 9.5], [14.5, 9.5]]), torch.tensor([[9.0, 9.0], [9.0, 9.0]]))
    cut = crop_masks(masks, windows, width=10, height=10)
    assert torch.equal(cut, torch.ones(2, 10, 10))
    wide = Windows(torch.tensor([[14.5, 9.5]]), torch.tensor([[29.0, 19.0]]))
    assert torch.equal(crop_masks(masks[:1], wide, width=30, height=20)[0] > 0.5, masks[0])
    assert crop_masks(None, wide, width=3, height=2).tolist() == [[[1.0] * 3] * 2]
    far = Windows(torch.tensor([[-200.0, 9.5]]), torch.tensor([[9.0, 9.0]]))
    assert not crop_masks(masks[:1], far, width=4, height=4).any()


class Marked(FakePose):
    """Says presence 0.25 of everybody, so that it can be told who was sent here."""

    def __init__(self, keypoints=None):
        super().__init__()
        if keypoints is not None:
            self.keypoints = keypoints

    def estimate(self, images, people):
        return [
            Poses(each.keypoints, each.scores, each.visibility, torch.full_like(each.presence, 0.25))
            for each in super().estimate(images, people)
        ]


@pytest.mark.slow
def test_small_people_go_to_the_crop_estimator_and_rows_stay(weights):
    """The image of 64 pixels is seen with 128: a window of 30 pixels has 60 there."""
    image = picture(64, 64)
    people = people_of((0, 0, 24, 24), (0, 0, 60, 60), (30, 30, 50, 50))
    encoder = Encoder()
    (poses,) = SAMPose(encoder, weights, SMALL, crop=Marked(), least_height=61).estimate([image], [people])
    assert (poses.presence == 0.25).all(1).tolist() == [True, False, True]
    (alone,) = SAMPose(Encoder(), weights, SMALL).estimate([image], [people[1:2]])
    torch.testing.assert_close(poses.keypoints[1], alone.keypoints[0])
    (none,) = SAMPose(encoder, weights, SMALL, crop=Marked(), least_height=0).estimate([image], [people])
    assert not (none.presence == 0.25).all(1).any()
    encoder.seen.clear()
    (all_small,) = SAMPose(encoder, weights, SMALL, crop=Marked(), least_height=999).estimate([image], [people])
    assert (all_small.presence == 0.25).all()
    assert encoder.seen == []


def test_weights_of_another_encoder_are_refused(weights):
    encoder = Encoder()
    encoder.fingerprint = "34" * 32
    with pytest.raises(UserError, match="was trained with another image encoder, whose features") as caught:
        SAMPose(encoder, weights, SMALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ({**SMALL, "channels": 16}, {}, "does not fit SharedSAMP .* misshapen"),
        ({**SMALL, "level_channels": (64, 64), "taps": (0, 1, 1)}, {}, None),
        (SMALL, dict(batch_size=0), "batch_size: expected at least 1, got 0"),
        (SMALL, dict(least_height=-1), "least_height: expected a number of pixels from 0 on, got -1"),
        (SMALL, dict(crop=Marked(KeypointSet(("nose",), (0.1,), (), ()))), "crop: expected an estimator of"),
    ],
)  # fmt: skip
def test_what_does_not_fit(weights, model, options, message):
    if message is None:  # the weights know nothing of how many levels there are, but the network does
        with pytest.raises(UserError, match="its levels have"):
            SAMPose(Encoder(), weights, model).estimate([picture(40, 50)], [people_of((2, 2, 20, 28))])
        return
    with pytest.raises(UserError, match=message) as caught:
        SAMPose(Encoder(), weights, model, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_loop_encodes_once_for_both_rounds_and_repose(weights):
    encoder = Encoder()
    pose = SAMPose(encoder, weights, SMALL)
    model = BMP(FakeDetector(), pose, FakeSegmenter(), KeepAll(), rounds=2, repose=True, encoder=encoder)
    people = model(scene((2, 2, 30, 40), (20, 10, 60, 46)))
    assert len(people) >= 1
    assert len({id(image) for image in encoder.seen}) == 1  # the original, never the one that is painted black


@pytest.mark.slow
def test_the_packaged_weights_belong_to_the_encoder_of_both_packaged_sams():
    pytest.importorskip("sam2", reason="the package sam2 is not installed")
    from bmp.models.sam2_encoder import SAM2Encoder

    encoders = [
        SAM2Encoder(f"nano/{name}.safetensors", "models/sam2_nano.yaml") for name in ("sam2-nano", "sam-pose2seg-nano")
    ]
    assert encoders[0].fingerprint == encoders[1].fingerprint
    pose = SAMPose(encoders[1], "nano/samp-nano.safetensors", "models/samp_nano.py")
    assert pose.network.fingerprint == encoders[0].fingerprint
    with pytest.raises(UserError, match="was trained with another image encoder"):
        SAMPose(SAM2Encoder("random", "models/sam2_nano.yaml"), "nano/samp-nano.safetensors", "models/samp_nano.py")
