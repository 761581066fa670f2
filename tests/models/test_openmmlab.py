"""The warnings that are left out: each by its own text and place, and none besides. Knows no model."""

import subprocess
import sys
import warnings

import pytest

from bmp.models.openmmlab import quiet_imports, quiet_models

AT_IMPORT = [
    ("pkg_resources is deprecated as an API. See https://…", UserWarning, "mmengine.utils.package_utils"),
    ("``MultiScaleDeformableAttention`` has been moved to …", ImportWarning, "mmcv.cnn.bricks.transformer"),
    (r"invalid escape sequence '\d'", SyntaxWarning, "/site-packages/mmpretrain/evaluation/metrics/vqa"),
    (r'"\i" is an invalid escape sequence.', SyntaxWarning, r"C:\site-packages\mmdet\models\dense_heads\head"),
]
AT_USE = [
    ("`torch.cuda.amp.autocast(args...)` is deprecated.", FutureWarning, "mmdet.models.layers.se_layer"),
    ("torch.meshgrid: in an upcoming release, it will", UserWarning, "torch.functional"),
    ('The metainfo config file "coco.py" does not exist.', UserWarning, "mmpose.datasets.datasets.utils"),
]


def shown(context, message: str, category: type[Warning], module: str) -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with context():
            warnings.warn_explicit(message, category, filename="file.py", lineno=1, module=module)
    return len(caught)


@pytest.mark.parametrize(
    ("context", "known"), [*((quiet_imports, k) for k in AT_IMPORT), *((quiet_models, k) for k in AT_USE)]
)
def test_a_known_warning_is_left_out_and_only_in_its_place(context, known):
    message, category, module = known
    assert shown(context, message, category, module) == 0
    assert shown(context, message, category, "my.module") == 1
    assert shown(context, "Something else", category, module) == 1
    assert shown(context, message, RuntimeWarning, module) == 1


@pytest.mark.parametrize("context", [quiet_imports, quiet_models])
def test_filters_are_as_before_after_the_block(context):
    with warnings.catch_warnings():
        before = list(warnings.filters)
        with context():
            warnings.simplefilter("once")
        assert warnings.filters == before


def test_the_networks_of_transformers_are_left_out_where_it_is_installed(monkeypatch):
    dependency = pytest.importorskip("mmpretrain.utils.dependency", reason="mmpretrain is not installed")
    monkeypatch.setattr(dependency, "WITH_MULTIMODAL", True)  # as with transformers beside it
    monkeypatch.delitem(sys.modules, "mmpretrain.models", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", sys)
    with quiet_models():
        assert not dependency.WITH_MULTIMODAL


def test_transformers_is_not_imported_along_with_openmmlab(monkeypatch, tmp_path):
    (tmp_path / "transformers.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    with pytest.raises(ImportError), quiet_imports(), quiet_imports():
        import transformers
    import transformers

    with quiet_imports():
        import transformers as again
    assert again is transformers


@pytest.mark.slow
def test_openmmlab_starts_from_its_own_configs_beside_transformers_and_importing_everything_says_nothing():
    """Both in one process of its own: importing these packages anew takes seconds."""
    for package in ("transformers", "mmcv.ops", "mmdet", "mmpose", "mmpretrain", "sam2"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    code = (
        "import bmp.training.detector, bmp.plugins.mmpose, sys\n"  # what custom_imports of such configs name
        "import bmp; bmp.load('nano.py')\n"
        "assert 'transformers' not in sys.modules\n"
        "from bmp.models.openmmlab import quiet_imports\n"
        "with quiet_imports():\n"
        "    import mmcv.ops, mmdet.apis, mmpose.apis, mmpretrain, sam2.build_sam\n"
    )
    finished = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    said = [line for line in finished.stderr.splitlines() if "Warning" in line]
    # Of the packages that those import in turn we answer for nothing; of these five for all.
    assert not [line for line in said if any(f"/{name}/" in line for name in ("mmengine", "mmcv", "mmdet", "mmpose"))]
    assert finished.stdout == ""
