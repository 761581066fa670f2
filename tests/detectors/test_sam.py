"""The detector on SAM's features: what it makes of the head's answers, and how known people are taken out."""

import pytest
import torch
from prompt_fakes import picture
from safetensors.torch import save_file

from bmp import UserError, load
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.detectors.sam import EncodedDetector, SAMDetector
from bmp.models.people_head import PeopleOutput, people_head
from bmp.stages import Detector, FeatureDetector
from bmp.structures.mask_windows import MaskWindows

SMALL = dict(level_channels=(4, 4, 4), channels=16)
SIDE = 64


class Encoder:
    """Levels that are all alike; it remembers what it was asked."""

    side, fingerprint = SIDE, "12" * 32

    def __init__(self):
        self.seen, self.again = [], []

    def levels(self, images):
        self.seen += images
        return self._levels(images, self.side)

    def levels_at(self, images, side):
        self.again += [(image, side) for image in images]
        return self._levels(images, side)

    def _levels(self, images, side):
        return [tuple(torch.ones(1, 4, side // stride, side // stride) for stride in (4, 8, 16)) for _ in images]


class TwoPeople(torch.nn.Module):
    """In place of the head: somebody in the left half of each image and, less surely, somebody in the right half."""

    def __init__(self):
        super().__init__()
        self.register_buffer("encoder_digest", torch.zeros(32, dtype=torch.uint8))
        self.known = []

    def forward(self, levels, known=None):
        self.known.append(known)
        count, cells = len(levels[0]), levels[1].shape[-2] * levels[1].shape[-1]
        scores = torch.full((count, cells), -9.0)
        scores[:, :3] = torch.tensor([2.0, 1.0, 1.5])  # the third is the first once more
        boxes = torch.zeros(count, cells, 4)
        boxes[:, :3] = torch.tensor([[-0.1, 0, 0.4, 1], [0.5, 0, 1, 1.2], [0, 0.1, 0.5, 1]])
        kernels = torch.zeros(count, cells, 1)
        kernels[:, 1] = 1
        return PeopleOutput(scores, boxes, kernels, torch.zeros(count, 1, 16, 16))

    def points(self, height, width):
        return torch.zeros(height * width, 2)

    def draw(self, maps, kernels, points):
        left = (torch.arange(16) < 8).float()[None, None].expand(len(kernels), 16, 16)
        return torch.where(kernels[:, :, None] > 0, 1 - left, left) * 2 - 1


def left_half(image):
    bits = torch.zeros(1, image.height, image.width, dtype=torch.bool)
    bits[:, :, : image.width // 2] = True
    return MaskWindows.of(bits)


def nobody(image):
    return MaskWindows.empty(image.height, image.width)


def test_boxes_and_masks_are_those_of_the_image_without_duplicates():
    image = picture(40, 60)
    (found,) = EncodedDetector(TwoPeople(), Encoder()).detect([image])
    # The head's box ends at 24 and the mask at 30: the truth is thought to lie between.
    assert found.boxes.tolist() == [[0, 0, 27, 40], [30, 0, 60, 40]]
    torch.testing.assert_close(found.scores, torch.tensor([2.0, 1.0]).sigmoid())
    assert torch.equal(found.masks[0], left_half(image).whole()[0])
    assert torch.equal(found.masks[1], ~found.masks[0])


def test_filling_encodes_once_and_tells_the_head_who_is_known():
    encoder, network, images = Encoder(), TwoPeople(), [picture(40, 60), picture(30, 30)]
    detector = EncodedDetector(network, encoder, known="fill")
    assert isinstance(detector, FeatureDetector)
    detector.detect_further(images, [left_half(images[0]), nobody(images[1])])
    assert encoder.seen == images
    assert not encoder.again
    (known,) = network.known
    assert known.shape == (2, 1, 16, 16)
    assert torch.equal(known[0, 0], (torch.arange(16) < 8).float().expand(16, 16))
    assert not known[1].any()


def test_suppressing_lowers_the_score_of_whom_known_people_cover():
    image, network = picture(40, 60), TwoPeople()
    (found,) = EncodedDetector(network, Encoder(), known="suppress").detect_further([image], [left_half(image)])
    assert network.known == [None]
    assert found.boxes.tolist() == [[30, 0, 60, 40]]
    torch.testing.assert_close(found.scores, torch.tensor([1.0]).sigmoid())


def test_repainting_encodes_the_painted_picture_at_half_the_size():
    encoder, network, image = Encoder(), TwoPeople(), picture(40, 60)
    (found,) = EncodedDetector(network, encoder, known="repaint").detect_further([image], [left_half(image)])
    ((painted, side),) = encoder.again
    assert side == SIDE // 2
    assert not painted.pixels[:, :30].any()
    assert torch.equal(painted.pixels[:, 30:], image.pixels[:, 30:])
    assert not encoder.seen
    assert network.known == [None]
    assert len(found) == 2  # the head saw levels of the size that it knows


@pytest.mark.parametrize("known", ["fill", "suppress", "repaint"])
def test_nobody_known_is_like_the_first_round(known):
    images = [picture(40, 60), picture(30, 30)]
    detector = EncodedDetector(TwoPeople(), Encoder(), known=known, batch_size=1)
    for one, two in zip(
        detector.detect(images), detector.detect_further(images, [nobody(image) for image in images]), strict=True
    ):
        assert torch.equal(one.boxes, two.boxes)
    assert detector.detect_further([], []) == []


@pytest.fixture
def weights(tmp_path):
    network = people_head(SMALL)
    network.fingerprint = Encoder.fingerprint
    file = tmp_path / "head.safetensors"
    save_file(network.state_dict(), file)
    return str(file)


def test_weights_of_another_encoder_are_refused(weights):
    assert isinstance(SAMDetector(Encoder(), weights, SMALL), Detector)
    other = Encoder()
    other.fingerprint = "34" * 32
    with pytest.raises(UserError, match="was trained with another image encoder"):
        SAMDetector(other, weights, SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(known="paint"), "known: there is no way 'paint'; .*fill, suppress, repaint"),
        (dict(score_threshold=2), "score_threshold: expected a number in"),
        (dict(nms_iou=-1), "nms_iou: expected a number in"),
        (dict(batch_size=0), "batch_size: expected at least 1"),
        (dict(painted_side=0), "painted_side: expected a multiple of 32 pixels, got 0"),
        (dict(painted_side=100), "painted_side: expected a multiple of 32 pixels, got 100"),
    ],
)
def test_wrong_values(options, message):
    with pytest.raises(UserError, match=message) as caught:
        SAMDetector(Encoder(), "random", SMALL, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.slow  # the packaged networks at their own size
def test_the_loop_of_one_encoder_encodes_a_scene_once_and_finds_people():
    pytest.importorskip("sam2", reason="the package sam2 is not installed")
    model = load("nano_one.py", device="cpu")
    encoded = []
    model.encoder.module.register_forward_pre_hook(lambda _, inputs: encoded.append(inputs[0].shape))
    scene = SynthCrowd("test-hard", 1).load(0)
    (result,) = model.run([scene], trace=True)
    assert encoded == [(1, 3, 320, 320)]
    assert len(result.trace) == 2
    assert len(result.people) >= 1
