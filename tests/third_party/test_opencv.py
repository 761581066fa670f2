"""The stand-in for opencv-python: one OpenCV is installed, the one without windows, and everybody is content."""

import importlib.metadata

import pytest
from packaging.requirements import Requirement

try:
    distribution = importlib.metadata.distribution("opencv-python")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("third_party/opencv-python is not installed", allow_module_level=True)
if any(file.parts[0] == "cv2" for file in distribution.files or []):
    pytest.skip("the real opencv-python is installed", allow_module_level=True)


def test_it_brings_the_headless_package_and_nothing_else():
    assert [Requirement(needed).name for needed in distribution.requires or []] == ["opencv-python-headless"]
    assert all(".dist-info" in file.parts[0] for file in distribution.files)


@pytest.mark.slow
def test_cv2_comes_from_the_headless_package_alone():
    owners = importlib.metadata.packages_distributions()["cv2"]
    assert set(owners) == {"opencv-python-headless"}
    import cv2

    assert "GUI" in cv2.getBuildInformation()
    assert "GTK" not in cv2.getBuildInformation().split("GUI:")[1].split("Media I/O")[0]


@pytest.mark.parametrize("package", ["mmcv-lite", "mmengine", "mmpose", "supervision"])
def test_it_meets_every_requirement(package):
    try:
        needed = [Requirement(line) for line in importlib.metadata.requires(package) or []]
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    installed = importlib.metadata.version("opencv-python-headless")
    for requirement in needed:
        if requirement.name == "opencv-python":
            assert requirement.specifier.contains(distribution.version)
            # What it promises by its version, the package behind it has to keep.
            assert requirement.specifier.contains(installed)
