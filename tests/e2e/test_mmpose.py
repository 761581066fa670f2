"""BMP in programs of MMPose's users: their test tool, their inferencers, their imports."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from program import BEHIND, CONFIG, ENVIRONMENT, FRONT, ROOT, main_in, run, save, script, together

from bmp import UserError
from bmp.checkpoints import sources as weights
from bmp.synthcrowd.__main__ import main as synthcrowd

mmpose = pytest.importorskip("mmpose", reason="needs the extra openmmlab", exc_type=ImportError)

pytestmark = pytest.mark.slow
TOOL = Path(mmpose.__file__).parent / ".mim" / "tools" / "test.py"
CONFIGS = ROOT / "configs" / "mmpose"
NUMBERS = {
    "AP": "ap", "AP .5": "ap50", "AP .75": "ap75", "AP (M)": "ap_medium", "AP (L)": "ap_large",
    "AR": "ar", "AR .5": "ar50", "AR .75": "ar75", "AR (M)": "ar_medium", "AR (L)": "ar_large",
}  # fmt: skip
"""What MMPose's metric calls the numbers, and what we call them."""


def call(folder, *arguments):
    """Run a program in this process as if started in ``folder``."""
    code, out, err = main_in(folder, *arguments, main=script)
    assert code == 0, out + err


def numbers_of_mmpose(folder, config, **options):
    """Evaluate with MMPose's own tools/test.py, with images drawn."""
    settings = [f"{key}={value}" for key, value in ({"load_from": None} | options).items()]
    call(
        folder, TOOL, CONFIGS / config, "none", "--work-dir", "work", "--out", "mmpose.json",
        "--show-dir", "drawn", "--interval", 1, "--cfg-options", *settings,
    )  # fmt: skip
    found = json.loads((folder / "mmpose.json").read_text())
    return {own: None if found[f"coco/{name}"] == -1 else found[f"coco/{name}"] for name, own in NUMBERS.items()}


def numbers_of_ours(folder, *arguments, config):
    code, _, err = run(folder, *arguments, "--output", "ours", config=config)
    assert code == 0, err
    return json.loads((folder / "ours" / "metrics.json").read_text())["rounds"][-1]["keypoints"]


def same(theirs, ours):
    assert theirs == {name: ours[name] for name in NUMBERS.values()}
    assert theirs["ap"] > 0


@pytest.fixture(scope="module")
def lite():
    pytest.importorskip("ai_edge_litert")
    try:
        weights.resolve("mediapipe/ssd_mobilenet_v2_open_images.tflite")
        weights.resolve("mediapipe/pose_landmark_full.tflite")
    except UserError as error:
        pytest.skip(f"the weights of the lite stages cannot be had: {error}")
    return "lite.py"


@pytest.mark.parametrize("name", ["coco", "ochuman"])
def test_average_precision_on_photos_is_ours_to_the_last_digit(shared, lite, tmp_path, name):
    images, annotations = shared / "data" / f"{name}_mini", f"test_{name}.json"
    options = {
        "model.pipeline": lite,
        "test_dataloader.dataset.data_root": images,
        "test_dataloader.dataset.ann_file": annotations,
        "test_dataloader.dataset.data_prefix.img": "",
    }
    theirs = numbers_of_mmpose(tmp_path, f"bmp_v2_{name}.py", **options)
    same(theirs, numbers_of_ours(tmp_path, "--dataset", images / annotations, "--images", images, config=lite))
    assert len(list(tmp_path.glob("work/*/drawn/*.jpg"))) == len(
        json.loads((images / annotations).read_text())["images"]
    )


def test_average_precision_on_synthcrowd_is_ours_to_the_last_digit(tmp_path, request):
    try:
        weights.resolve("nano/rtmdet-ins-nano.safetensors")
        weights.resolve("nano/pmpose-nano.safetensors")
        config = "nano.py"
    except UserError:  # in a checkout whose networks are not trained yet
        config = request.getfixturevalue("lite")
    folder = tmp_path / "output" / "synthcrowd"  # where the config looks
    options = ("--output", folder, "--splits", "test", "--count", 6, "--workers", 1)
    assert main_in(tmp_path, *options, main=synthcrowd)[0] == 0
    theirs = numbers_of_mmpose(tmp_path, "bmp_nano.py", **{"model.pipeline": config})
    same(theirs, numbers_of_ours(tmp_path, "--dataset", folder / "test.json", "--images", folder, config=config))


@pytest.fixture
def workplace(tmp_path):
    """Pictures of two, one or no squares, a video of them, and an MMPose config for the fake stages."""
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "mmpose_config.py").write_text(
        f"_base_ = [{str(CONFIGS / '_base_' / 'bmp.py')!r}]\nmodel = dict(pipeline='config.py')\n"
    )
    paths = [
        save(tmp_path / "photos" / "a.png", BEHIND, FRONT),
        save(tmp_path / "photos" / "b.png", FRONT),
        save(tmp_path / "photos" / "c.png"),
    ]
    writer = cv2.VideoWriter(str(tmp_path / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    for path in paths:
        writer.write(cv2.imread(str(path)))
    writer.release()
    return tmp_path


INFERENCE = """
import sys
from mmpose.apis import MMPoseInferencer, Pose2DInferencer

inferencer = MMPoseInferencer(pose2d="mmpose_config.py", device="cpu")
options = dict(draw_bbox=True, radius=1, thickness=1)
for name, source in dict(one="photos/a.png", folder="photos", video="video.mp4").items():
    for result in inferencer(source, vis_out_dir=f"{name}/drawn", pred_out_dir=f"{name}/found", **options):
        pass
plain = Pose2DInferencer("mmpose_config.py", device="cpu")
(result,) = plain("photos/a.png", return_vis=True, return_datasamples=True, skeleton_style="openpose", **options)
sample = result["predictions"][0]
assert sample.pred_instances.masks.shape == (2, 48, 64), sample
assert result["visualization"][0].shape == (48, 64, 3)
"""


def test_inferencers_do_images_folders_and_videos(workplace):
    (workplace / "script.py").write_text(INFERENCE)
    call(workplace, "script.py")
    counts = {"a": 2, "b": 1, "c": 0}
    for folder, names in {"one": "a", "folder": "abc"}.items():
        found = {path.stem: json.loads(path.read_text()) for path in (workplace / folder / "found").iterdir()}
        assert {name: len(people) for name, people in found.items()} == {name: counts[name] for name in names}
        assert sorted(path.name for path in (workplace / folder / "drawn").iterdir()) == [f"{n}.png" for n in names]
    (person,) = json.loads((workplace / "folder" / "found" / "b.json").read_text())
    assert person["bbox"] == [[20, 10, 30, 20]]
    assert person["keypoints"][0] == [20, 10]
    assert person["keypoints"][-1] == [30, 20]
    drawn, photo = (cv2.imread(str(workplace / name / "b.png")) for name in ("folder/drawn", "photos"))
    assert (drawn != photo).any()
    # A codec changes colours, by which the fake detector knows people: only that each frame was done is certain.
    assert len(json.loads((workplace / "video" / "found" / "video.json").read_text())) == 3
    video = cv2.VideoCapture(str(workplace / "video" / "drawn" / "video.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3


DISTRIBUTED = """
import sys
import torch.distributed
from mmengine.config import Config
from mmengine.runner import Runner

torch.distributed.init_process_group("gloo")
settings = Config.fromfile("mmpose_config.py")
settings.test_dataloader.update(batch_size=1, num_workers=0)
settings.test_dataloader.dataset.update(data_root=".", ann_file="truth.json", data_prefix=dict(img="photos"))
settings.update(
    launcher="pytorch", work_dir="work", model_wrapper_cfg=dict(type="MMDistributedDataParallel", device_ids=None)
)
numbers = Runner.from_cfg(settings).test()
assert numbers["coco/AP"] == 1, numbers
"""


def test_several_processes_share_a_test(workplace):
    rows = [
        {
            "id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": (x2 - x1) * (y2 - y1),
            "bbox": [x1, y1, x2 - x1, y2 - y1], "num_keypoints": 17,
            "keypoints": [v for i in range(17) for v in (x1 + (x2 - x1) * i / 16, y1 + (y2 - y1) * i / 16, 2)],
        }
        for number, (image, (x1, y1, x2, y2)) in enumerate([(1, BEHIND), (1, FRONT), (2, FRONT)], 1)
    ]  # fmt: skip
    images = [{"id": i, "file_name": f"{n}.png", "height": 48, "width": 64} for i, n in enumerate("abc", 1)]
    ground_truth = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "person"}]}
    (workplace / "truth.json").write_text(json.dumps(ground_truth))
    (workplace / "script.py").write_text(DISTRIBUTED)
    for code, out, err in together(workplace, "script.py", main=script):
        assert code == 0, out + err


IMPORT = """
import json, logging, multiprocessing, os, random, sys, warnings
import mmpretrain.utils.dependency
mmpretrain.utils.dependency.WITH_MULTIMODAL = False  # mmpretrain itself does not start beside transformers 5
import cv2, matplotlib, mmcv, mmdet.models, mmengine, mmpose.apis, mmpose.models, mmpose.visualization, numpy, torch
import mmpretrain.models, torchvision, scipy, PIL.Image
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry, root
from mmengine.logging import MMLogger, MessageHub

def registries(registry):
    yield registry
    for child in registry.children.values():
        yield from registries(child)

def state():
    roots = {id(value): value for value in vars(root).values() if isinstance(value, Registry)}
    return dict(
        registered={f"{each.name} of {each.scope}": dict(each._module_dict) for top in roots.values() for each in registries(top)},
        scopes=list(DefaultScope._instance_dict),
        hubs=list(MessageHub._instance_dict), loggers=list(MMLogger._instance_dict),
        filters=list(warnings.filters), showwarning=warnings.showwarning,
        handlers=list(logging.root.handlers), level=logging.root.level, disabled=logging.root.manager.disable,
        threads=(cv2.getNumThreads(), torch.get_num_threads(), torch.get_num_interop_threads()),
        opencl=cv2.ocl.useOpenCL(), dtype=torch.get_default_dtype(), grad=torch.is_grad_enabled(),
        benchmark=torch.backends.cudnn.benchmark, deterministic=torch.are_deterministic_algorithms_enabled(),
        precision=torch.get_float32_matmul_precision(), backend=matplotlib.get_backend(),
        random=(random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
        errors=numpy.geterr(), print=numpy.get_printoptions(), environment=dict(os.environ), path=list(sys.path),
        start=torch.multiprocessing.get_start_method(allow_none=True), hook=sys.excepthook,
        pixels=PIL.Image.MAX_IMAGE_PIXELS, mm=mmcv.imread.__globals__["imread_backend"],
    )

def taken():
    mmpose.registry.KEYPOINT_CODECS.register_module("ProbMap", module=type("ProbMap", (), {}))
    Config.fromfile("config.py")

other = multiprocessing.get_context("fork").Process(target=taken)
other.start()
other.join()
assert other.exitcode == 1

before = state()
import bmp.plugins.mmpose
after = state()
was, now = before.pop("registered"), after.pop("registered")
assert before == after, [key for key in before if before[key] != after[key]]
added = {}
for registry, modules in now.items():
    if not registry.endswith("of bmp"):
        old = was.get(registry, {})
        changed = {name for name in old if modules[name] is not old[name]}
        assert changed <= {"TopdownPoseEstimator"}, (registry, changed)  # its subclass, which takes freeze_backbone
        assert all(issubclass(modules[name], old[name]) for name in changed), registry
        added.update({name: module.__module__ for name, module in modules.items() if name not in old})
assert added.pop("BMPPoseEstimator") == "bmp.plugins.mmpose"
assert "ProbabilisticHeatmapHead" in added
assert all(module.startswith("bmp.") for module in added.values()), added
"""


def test_the_import_registers_and_changes_nothing_else_and_a_name_that_another_package_took_is_told(tmp_path):
    """In a process of its own, which has forked one for the name by then: importing MMPose takes it seconds."""
    (tmp_path / "config.py").write_text("custom_imports = dict(imports=['bmp.plugins.mmpose'])")
    (tmp_path / "script.py").write_text(IMPORT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("bmp.errors.UserError: bmp.plugins.mmpose: ProbMap is already registered in")
    assert lines[-1].endswith("take the other one out of custom_imports, or use it in another process")


SCOPES = """
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope, init_default_scope
from mmdet.registry import MODELS as DETECTORS
from mmdet.structures import DetDataSample
from mmpose.registry import MODELS
import mmdet.models, mmpose.models, bmp.plugins.mmpose
from bmp.models.configs import load_model_config

def estimate(model):
    (sample,) = model.test_step({"inputs": [photo]})
    return {name: torch.as_tensor(value) for name, value in sample.pred_instances.items()}

def detect(model):
    metainfo = dict(scale_factor=(1, 1), ori_shape=(320, 320), img_shape=(320, 320), batch_input_shape=(320, 320))
    (sample,) = model.test_step({"inputs": [photo], "data_samples": [DetDataSample(metainfo=metainfo)]})
    return {name: torch.as_tensor(value) for name, value in sample.pred_instances.items()}

def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)

photo = torch.randint(256, (3, 320, 320), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
init_default_scope("mmpose")
pipeline = dict(
    rounds=2,
    detector=dict(type="MMDetDetector", config="models/rtmdet_ins_nano.py", checkpoint="random", score_threshold=0.0),
    pose=dict(type="MMPoseEstimator", config="models/pmpose_nano.py", checkpoint="random"),
    segmenter=dict(type="DetectedMasks"),
    suppressor=dict(type="OKSSuppressor"),
)
ours = MODELS.build(dict(type="BMPPoseEstimator", pipeline=pipeline))
assert DefaultScope.get_current_instance().scope_name == "mmpose"
people = estimate(ours)
assert len(people["bboxes"]), "nobody to compare"
assert DefaultScope.get_current_instance().scope_name == "mmpose"

with DefaultScope.overwrite_default_scope("mmdet"):
    theirs = DETECTORS.build(ConfigDict(load_model_config("models/rtmdet_ins_nano.py", "mmdet")["model"])).eval()
    found = detect(theirs)
    assert same(estimate(ours), people)
    again = MODELS.build(dict(type="mmpose.BMPPoseEstimator", pipeline=pipeline))
    assert DefaultScope.get_current_instance().scope_name == "mmdet"
    assert same(estimate(again), people)
    assert same(detect(theirs), found)
assert same(estimate(again), people)
assert same(detect(theirs), found)
assert DefaultScope.get_current_instance().scope_name == "mmpose"
"""


def test_models_of_two_scopes_live_together(tmp_path):
    (tmp_path / "script.py").write_text(SCOPES)
    call(tmp_path, "script.py")
