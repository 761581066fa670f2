"""What every stage promises, checked on every stage: one list of makers a role, one suite.

Makers return a stage with few or made-up weights; what cannot be made on this machine skips and says why.
"""

import copy
import dataclasses
import functools
import pickle
import tempfile
from pathlib import Path

import pytest
import tiny_models
import torch
import torch.nn.functional as F  # noqa: N812
from fakes import FakeDetector, FakeParser, FakePose, FakeSegmenter, KeepAll, detections
from matplotlib import cbook

from bmp import UserError
from bmp.io import images
from bmp.ops.masks import exclusive
from bmp.parsers.schnet import SAMCLIPParser
from bmp.parsers.skeleton import SkeletonParts
from bmp.poses.released import FilledContours
from bmp.segmenters.cropped import CroppedSegmenter
from bmp.segmenters.detected import DetectedMasks
from bmp.segmenters.mask_prompted import MaskPromptedSegmenter
from bmp.segmenters.prompting import (
    ClosestOther,
    GivenBox,
    InflatedBox,
    LeastVisible,
    MaxSpread,
    MaxVisibility,
)
from bmp.segmenters.released import ExchangedColours, GatedMaxVisibility
from bmp.stages import Detector, PartParser, PoseEstimator, Prompter, Segmenter, Suppressor
from bmp.structures import Detections, Image, Instances, Masks, Poses
from bmp.structures.mask_windows import MaskWindows
from bmp.suppression.oks import OKSSuppressor
from bmp.suppression.released import ReleasedOKSSuppressor


def _lite(module, name):
    def make():
        stage = getattr(pytest.importorskip(f"bmp.{module}.lite"), name)
        pytest.importorskip("ai_edge_litert")
        try:
            return stage()
        except UserError as error:
            pytest.skip(f"the weights of the lite stages cannot be had: {error}")

    return make


def _mmdet(name, **options):
    def make(**more):
        pytest.importorskip("mmcv.ops")
        from bmp.detectors.mmdet import MMDetDetector

        torch.manual_seed(0)
        return MMDetDetector(tiny_models.rtmdet(name, 128), "random", **{"score_threshold": 0.5, **options, **more})

    return make


def _mmpose(family, **options):
    def make(**more):
        pytest.importorskip("mmpose")
        from bmp.poses.mmpose import MMPoseEstimator

        return MMPoseEstimator(tiny_models.pose_section(family), "random", **options, **more)

    return make


@functools.cache
def _sam2(**options):
    pytest.importorskip("sam2")
    from bmp.segmenters.sam2 import SAM2Segmenter

    with tempfile.TemporaryDirectory() as folder:
        return SAM2Segmenter(MaxVisibility(), "random", tiny_models.sam2_config(Path(folder)), **options)


def _samp():
    pytest.importorskip("sam2")
    from bmp.models.sam2_encoder import SAM2Encoder
    from bmp.poses.samp import SAMPose

    network = dict(level_channels=(64, 64, 64), crop=(64, 48), channels=8, stem_channels=(4, 8, 8, 8))
    with tempfile.TemporaryDirectory() as folder:
        return SAMPose(SAM2Encoder("random", tiny_models.sam2_config(Path(folder))), "random", network)


def _on_sam():
    pytest.importorskip("sam2")
    from bmp.detectors.sam import SAMDetector
    from bmp.models.sam2_encoder import SAM2Encoder

    network = dict(level_channels=(64, 64, 64), channels=16)
    with tempfile.TemporaryDirectory() as folder:
        encoder = SAM2Encoder("random", tiny_models.sam2_config(Path(folder)))
    return SAMDetector(encoder, "random", network, score_threshold=0.009)


def _transformers(role, name, architecture, *first, **options):
    @functools.cache
    def make(**more):
        pytest.importorskip("transformers")
        stage = getattr(pytest.importorskip(f"bmp.{role}.transformers"), name)
        return stage(*first, "random", tiny_models.transformers_config(architecture), **options, **more)

    return make


@functools.cache
def _sam1():
    segment_anything = pytest.importorskip("segment_anything")
    from bmp.segmenters.sam1 import SAM1Segmenter

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(segment_anything.sam_model_registry, "tiny", tiny_models.sam1)
        return SAM1Segmenter(MaxSpread(), "random", "tiny")


class _Colours:
    """An encoder whose levels are the colours of the image."""

    def levels(self, images):
        return [tuple(F.interpolate(self._planes(image), (side, side)) for side in (32, 16, 8)) for image in images]

    def _planes(self, image):
        return image.pixels.permute(2, 0, 1)[None].float() / 255


def _network_parser(way):
    def make():
        shape = dict(base="nano", level_channels=(3, 3, 3), width=8, tokens=4, rank=2, semantics="", head=8)
        return SAMCLIPParser("random", _Colours(), shape, way=way, grid=(16, 12))

    return make


ENGINES = ("onnxruntime", "openvino")
RUN_BY_ENGINES = {
    "rtmdet-ins": _mmdet("rtmdet-ins"),
    "rtmdet": _mmdet("rtmdet", score_threshold=0.26),
    "pmpose": _mmpose("pmpose"),
    "maskpose": _mmpose("maskpose", visibility_from="score", presence_from="score"),
    "sam 2.1": _sam2,
    "transformers, pose": _transformers("poses", "TransformersPose", "VitPoseForPoseEstimation, experts"),
    "transformers, sam 2.1": _transformers("segmenters", "TransformersSegmenter", "Sam2Model", MaxVisibility()),
}
"""Makers of stages, which take the option ``engine``."""


@pytest.fixture(scope="module", autouse=True)
def _exported_once(tmp_path_factory):
    """Keep exported networks for this module; weights stay where they are."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("engines")
        patch.setattr("bmp.models.engines.cache.cache_folder", lambda: folder)
        yield


def _by_engine(name):
    def make():
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        return RUN_BY_ENGINES[name](engine="onnxruntime")

    return _slow(make)


def _slow(make):
    return pytest.param(make, marks=pytest.mark.slow)


DETECTORS = {
    "fake": FakeDetector,
    "lite": _slow(_lite("detectors", "LiteDetector")),
    "mmdet with masks": _mmdet("rtmdet-ins"),
    "on sam's features": _on_sam,
    "torchvision": tiny_models.torchvision_detector,
    "mmdet by an engine": _by_engine("rtmdet-ins"),
    "mmdet without masks": _slow(_mmdet("rtmdet")),
    **{
        f"transformers, {architecture}": _slow(
            _transformers("detectors", "TransformersDetector", architecture, side=64, score_threshold=threshold)
        )
        for architecture, threshold in (
            ("RTDetrV2ForObjectDetection", 0.005),
            ("DFineForObjectDetection", 0.005),
            ("RfDetrForInstanceSegmentation", 0.005),
        )
    },
}
POSES = {
    "fake": FakePose,
    "lite": _lite("poses", "LitePoseEstimator"),
    "mmpose, probabilistic": _mmpose("pmpose"),
    "mmpose by an engine": _by_engine("pmpose"),
    "as released": lambda: FilledContours(FakePose()),
    "samp, shared": _samp,
    "torchvision": tiny_models.torchvision_pose,
    "mmpose, heatmaps": _slow(_mmpose("maskpose", visibility_from="score", presence_from="score")),
    "transformers, experts": _slow(_transformers("poses", "TransformersPose", "VitPoseForPoseEstimation, experts")),
}
SEGMENTERS = {
    "fake": FakeSegmenter,
    "transformers": _slow(_transformers("segmenters", "TransformersSegmenter", "Sam2Model", MaxVisibility())),
    "the detector's own": DetectedMasks,
    "lite": _lite("segmenters", "LiteSegmenter"),
    "as released": lambda: ExchangedColours(FakeSegmenter()),
    "sam 2.1": _sam2,
    "sam 2.1 by an engine": _by_engine("sam 2.1"),
    "sam 1": _slow(_sam1),
    "sam 2.1, prompted with masks": lambda: MaskPromptedSegmenter(_sam2(), DetectedMasks()),
    "sam 1, prompted with masks": _slow(lambda: MaskPromptedSegmenter(_sam1(), DetectedMasks())),
    "sam 2.1 on crops": lambda: CroppedSegmenter(_sam2()),
}
PROMPTERS = {
    "max visibility": MaxVisibility,
    "max spread": MaxSpread,
    "max spread, as published": lambda: MaxSpread(candidate_quantile=0.8),
    "least visible as negative": lambda: MaxVisibility(negative=LeastVisible()),
    "closest other as negative": lambda: MaxSpread(negative=ClosestOther(), box=GivenBox()),
    "inflated box": lambda: MaxVisibility(box=InflatedBox()),
    "max visibility, as released": GatedMaxVisibility,
}
PARSERS = {"fake": FakeParser, "skeleton": SkeletonParts, "network by person": _network_parser("person")}
PARSERS["network by image"] = _network_parser("image")
SUPPRESSORS = {"fake": KeepAll, "oks": OKSSuppressor, "oks, as released": ReleasedOKSSuppressor}


def _stage(makers):
    @pytest.fixture(params=list(makers.values()), ids=list(makers), scope="module")
    def stage(request):
        return request.param()

    return stage


detector, pose, segmenter = _stage(DETECTORS), _stage(POSES), _stage(SEGMENTERS)
prompter, suppressor, parser = _stage(PROMPTERS), _stage(SUPPRESSORS), _stage(PARSERS)


@functools.cache
def photo():
    """One real person, 256 x 302 pixels."""
    pixels = images.load(cbook._get_data_path("sample_data/grace_hopper.jpg")).pixels
    return Image(pixels[::2, ::2].contiguous())


def noise(height, width):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return Image(torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator))


def people_of(image, count):
    """``count`` overlapping boxes of different sizes, all within the image."""
    steps = torch.linspace(0, 0.4, count)[:, None] if count else torch.zeros(0, 1)
    size = torch.tensor([image.width, image.height])
    boxes = torch.cat([size * steps, size * (1 - steps / 2)], dim=1)
    return Detections(boxes, torch.linspace(0.9, 0.5, count))


def masked_people_of(image, count):
    """The same people with masks that fill their boxes."""
    people = people_of(image, count)
    rows, columns = torch.arange(image.height)[:, None], torch.arange(image.width)
    x1, y1, x2, y2 = people.boxes[:, :, None, None].unbind(1)
    masks = (columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)
    return Detections(people.boxes, people.scores, masks)


def poses_of(people):
    (poses,) = FakePose().estimate([photo()], [people])
    visibility = torch.linspace(1, 0.1, 17).expand(len(people), 17).contiguous()
    return Poses(poses.keypoints, poses.scores, visibility, poses.presence)


ODD = [(1, 1), (33, 7), *(pytest.param(*size, marks=pytest.mark.slow) for size in ((1, 40), (151, 128)))]


def same(first, second, edges=0.0):
    """All tensors of two records are equal, masks but for a share ``edges`` of their pixels.

    Without rows nothing can be told of optional ones.
    """
    assert len(first) == len(second)
    if not len(first):
        return
    for value, other in zip(first._values().values(), second._values().values(), strict=True):
        if isinstance(value, MaskWindows):
            value, other = value.whole(), other.whole()
        if isinstance(value, torch.Tensor):
            assert value.dtype == other.dtype
            if value.dtype == torch.bool and (value != other).sum() <= edges * value.numel():
                continue
            torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-4)
        elif value is not None:
            same(value, other, edges)
        else:
            assert other is None


def copies(stage):
    """What a worker pool and a deep copy make of a stage."""
    return [pickle.loads(pickle.dumps(stage)), copy.deepcopy(stage)]


class TestDetector:
    def test_fits_the_protocol(self, detector):
        assert isinstance(detector, Detector)

    def test_no_images(self, detector):
        assert detector.detect([]) == []

    @pytest.mark.parametrize(("height", "width"), ODD)
    def test_odd_sizes(self, detector, height, width):
        (found,) = detector.detect([Image(torch.zeros(height, width, 3, dtype=torch.uint8))])
        assert isinstance(found, Detections)
        assert (found.boxes <= torch.tensor([width, height] * 2)).all()

    def test_best_first_within_the_image_and_deterministic(self, detector):
        before = photo().pixels.clone()
        (found,), (again,) = detector.detect([photo()]), detector.detect([photo()])
        assert torch.equal(photo().pixels, before)
        same(found, again)
        assert torch.equal(found.scores, found.scores.sort(descending=True).values)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([photo().width, photo().height] * 2)).all()
        assert found.masks is None or found.masks.shape == (len(found), photo().height, photo().width)

    def test_a_batch_gives_what_its_images_give_alone(self, detector):
        batch = [photo(), noise(61, 83), Image(photo().pixels.flip(1).contiguous())]
        for image, together in zip(batch, detector.detect(batch), strict=True):
            # Networks round differently in a batch, and a pixel may lie right on the edge of a mask.
            same(together, *detector.detect([image]), edges=2e-6)

    @pytest.mark.slow
    def test_copies_give_the_same(self, detector):
        (found,) = detector.detect([photo()])
        for other in copies(detector):
            same(found, *other.detect([photo()]))


@pytest.mark.slow
def test_copies_of_a_detector_in_bfloat16_give_the_same():
    detector = _mmdet("rtmdet-ins", dtype="bfloat16")()
    (found,) = detector.detect([photo()])
    exact = _mmdet("rtmdet-ins")().detect([photo()])[0]
    assert not torch.equal(found.boxes[:1], exact.boxes[:1])  # the copies could not show that they are in bfloat16
    for other in copies(detector):
        same(found, *other.detect([photo()]))


def _answers(stage):
    """What a stage of any role makes of photos of several sizes, with several people."""
    batch = [photo(), noise(61, 83), Image(photo().pixels.flip(1).contiguous())]
    if isinstance(stage, Detector):
        return stage.detect(batch)
    people = [masked_people_of(image, count) for image, count in zip(batch, (3, 1, 2), strict=True)]
    if isinstance(stage, PoseEstimator):
        return stage.estimate(batch, people)
    poses = [poses_of(rows) for rows in people]
    views = stage.open(batch)
    first = stage.segment(views, people, poses, [Poses.empty(17)] * 3)
    prompts = [masks.prompts for masks in first]
    logits = [rows for rows, _ in stage.logits(views, prompts)]
    corrected = [rows for rows, _ in stage.logits(views, prompts, logits, multimask=True)]
    unprompted = stage.logits(views[:1], [dataclasses.replace(prompts[0], labels=prompts[0].labels * 0 - 1)])
    return [*first, *corrected, *(rows for rows, _ in unprompted)]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", RUN_BY_ENGINES)
def test_every_engine_gives_what_torch_gives(name, engine):
    for library in ("onnx", engine):
        pytest.importorskip(library)
    make = RUN_BY_ENGINES[name]
    found, expected = _answers(make(engine=engine)), _answers(make())
    assert sum(map(len, expected)) > 1
    for one, other in zip(found, expected, strict=True):
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
        else:
            same(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam 2.1", "transformers, sam 2.1"])
def test_an_engine_in_bfloat16_is_near_torch(name):
    pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    make = RUN_BY_ENGINES[name]
    found, expected = _answers(make(engine="openvino", dtype="bfloat16")), _answers(make())
    for one, other in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=0.05)


class TestPoseEstimator:
    def test_fits_the_protocol(self, pose):
        assert isinstance(pose, PoseEstimator)
        assert len(pose.keypoints) == 17

    def test_no_images(self, pose):
        assert pose.estimate([], []) == []

    @pytest.mark.parametrize(("height", "width"), ODD)
    @pytest.mark.parametrize("count", [0, 1])
    def test_odd_sizes(self, pose, height, width, count):
        image = noise(height, width)
        (poses,) = pose.estimate([image], [people_of(image, count)])
        assert isinstance(poses, Poses)
        assert poses.keypoints.shape == (count, 17, 2)

    def test_boxes_without_area_and_outside_the_image(self, pose):
        boxes = detections((5, 5, 5, 5), (-50, -50, -20, -10), (0, 0, 1e4, 1e4))
        (poses,) = pose.estimate([photo()], [boxes])
        assert len(poses) == 3

    def test_rows_keep_their_order(self, pose):
        people = people_of(photo(), 3)
        order = torch.tensor([2, 0, 1])
        (straight,), (shuffled,) = pose.estimate([photo()], [people]), pose.estimate([photo()], [people[order]])
        same(straight[order], shuffled)

    def test_a_batch_gives_what_its_images_give_alone(self, pose):
        batch = [photo(), noise(61, 83), noise(40, 90)]
        people = [people_of(image, count) for image, count in zip(batch, (2, 0, 1), strict=True)]
        for image, rows, together in zip(batch, people, pose.estimate(batch, people), strict=True):
            same(together, *pose.estimate([image], [rows]))

    @pytest.mark.slow
    def test_copies_give_the_same(self, pose):
        people = people_of(photo(), 2)
        (poses,) = pose.estimate([photo()], [people])
        for other in copies(pose):
            same(poses, *other.estimate([photo()], [people]))


class TestSegmenter:
    def test_fits_the_protocol(self, segmenter):
        assert isinstance(segmenter, Segmenter)

    def test_no_images(self, segmenter):
        assert segmenter.open([]) == []
        assert segmenter.segment([], [], [], []) == []

    @pytest.mark.parametrize(("height", "width"), ODD)
    @pytest.mark.parametrize("count", [0, 1])
    def test_odd_sizes(self, segmenter, height, width, count):
        image = noise(height, width)
        people = masked_people_of(image, count)
        (masks,) = segmenter.segment(segmenter.open([image]), [people], [poses_of(people)], [Poses.empty(17)])
        assert masks.bits.shape == (count, height, width)

    def test_rows_keep_their_order(self, segmenter):
        people = masked_people_of(photo(), 3)
        order = torch.tensor([2, 0, 1])
        views = segmenter.open([photo()])
        (straight,) = segmenter.segment(views, [people], [poses_of(people)], [Poses.empty(17)])
        (shuffled,) = segmenter.segment(views, [people[order]], [poses_of(people)[order]], [Poses.empty(17)])
        same(straight[order], shuffled)

    def test_a_batch_gives_what_its_images_give_alone(self, segmenter):
        batch = [photo(), noise(61, 83), noise(40, 90)]
        before = [image.pixels.clone() for image in batch]
        people = [masked_people_of(image, count) for image, count in zip(batch, (2, 0, 1), strict=True)]
        poses = [poses_of(rows) for rows in people]
        others = [poses_of(people_of(photo(), 1)), Poses.empty(17), Poses.empty(17)]
        together = segmenter.segment(segmenter.open(batch), people, poses, others)
        for i, image in enumerate(batch):
            assert torch.equal(image.pixels, before[i])
            same(
                together[i],
                *segmenter.segment(segmenter.open([image]), people[i : i + 1], poses[i : i + 1], others[i : i + 1]),
            )

    @pytest.mark.slow
    def test_copies_give_the_same(self, segmenter):
        people = masked_people_of(photo(), 2)
        given = [people], [poses_of(people)], [Poses.empty(17)]
        (masks,) = segmenter.segment(segmenter.open([photo()]), *given)
        for other in copies(segmenter):
            same(masks, *other.segment(other.open([photo()]), *given))


class TestPrompter:
    def test_fits_the_protocol(self, prompter):
        assert isinstance(prompter, Prompter)

    @pytest.mark.parametrize("count", [0, 1, 4])
    @pytest.mark.parametrize("others", [0, 2])
    def test_the_number_of_points_is_always_the_same(self, prompter, count, others):
        people = people_of(photo(), count)
        prompts = prompter.prompts(people, poses_of(people), poses_of(people_of(photo(), others)))
        reference = prompter.prompts(people_of(photo(), 2), poses_of(people_of(photo(), 2)), Poses.empty(17))
        assert prompts.points.shape == (count, *reference.points.shape[1:])
        assert set(prompts.labels.flatten().tolist()) <= {-1, 0, 1}

    def test_rows_keep_their_order(self, prompter):
        people = people_of(photo(), 3)
        order = torch.tensor([2, 0, 1])
        straight = prompter.prompts(people, poses_of(people), Poses.empty(17))
        same(straight[order], prompter.prompts(people[order], poses_of(people)[order], Poses.empty(17)))

    def test_copies_give_the_same(self, prompter):
        people = people_of(photo(), 3)
        given = people, poses_of(people), poses_of(people_of(photo(), 2))
        for other in copies(prompter):
            same(prompter.prompts(*given), other.prompts(*given))


class TestSuppressor:
    def test_fits_the_protocol(self, suppressor):
        assert isinstance(suppressor, Suppressor)

    @pytest.mark.parametrize("count", [0, 1, 5])
    def test_kept_rows_are_ascending_and_unique(self, suppressor, count):
        people = people_of(photo(), count)
        kept = suppressor.keep(people, poses_of(people))
        assert kept.dtype == torch.int64
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert set(kept.tolist()) <= set(range(count))
        assert len(kept) >= min(count, 1)

    def test_copies_give_the_same(self, suppressor):
        people = people_of(photo(), 4)
        for other in copies(suppressor):
            assert torch.equal(suppressor.keep(people, poses_of(people)), other.keep(people, poses_of(people)))


class TestPartParser:
    def test_fits_the_protocol(self, parser):
        assert isinstance(parser, PartParser)
        assert parser.label_set.names[0] == "background"

    def test_no_images(self, parser):
        assert parser.parse([], []) == []

    @pytest.mark.parametrize(("height", "width"), ODD)
    @pytest.mark.parametrize("count", [0, 1])
    def test_odd_sizes(self, parser, height, width, count):
        image = noise(height, width)
        people = instances_of(image, count)
        (parts,) = parser.parse([image], [people])
        assert len(parts) == count
        assert torch.equal(parts.labels > 0, people.masks.bits.any(dim=0))  # parts tile masks

    def test_pixels_of_a_person_with_an_empty_mask_are_nobodys(self, parser):
        people = instances_of(photo(), 2)
        bits = people.masks.bits.clone()
        bits[1] = False
        people = dataclasses.replace(people, masks=dataclasses.replace(people.masks, bits=bits))
        (parts,) = parser.parse([photo()], [people])
        assert not parts.of(1).any()
        assert not parts.scores[1].any()

    def test_scores_are_of_parts_that_there_are(self, parser):
        (parts,) = parser.parse([photo()], [instances_of(photo(), 3)])
        areas = parts.areas()
        assert (parts.scores[areas == 0] == 0).all()
        assert (parts.scores[:, 1:][areas[:, 1:] > 0] > 0).all()
        assert not parts.scores[:, 0].any()

    def test_a_batch_gives_what_its_images_give_alone(self, parser):
        batch = [photo(), noise(61, 83), noise(40, 90)]
        people = [instances_of(image, count) for image, count in zip(batch, (2, 0, 1), strict=True)]
        for image, rows, together in zip(batch, people, parser.parse(batch, people), strict=True):
            same_parts(together, *parser.parse([image], [rows]))

    def test_copies_give_the_same(self, parser):
        people = instances_of(photo(), 2)
        (parts,) = parser.parse([photo()], [people])
        for other in copies(parser):
            same_parts(parts, *other.parse([photo()], [people]))


def instances_of(image, count):
    """The same people as the loop would return them: every pixel has one owner."""
    people = masked_people_of(image, count)
    bits = exclusive(people.masks, people.scores)
    rounds = torch.ones(count, dtype=torch.int64)
    return Instances(people, poses_of(people), Masks(bits, people.scores), rounds)


def same_parts(first, second):
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.owners, second.owners)
    torch.testing.assert_close(first.scores, second.scores, rtol=1e-4, atol=1e-4)
