"""The stand-in for chumpy satisfies mmpose's requirement and installs no module. It knows nothing of mmpose's code."""

import importlib.metadata
import importlib.util

import pytest

try:
    files = importlib.metadata.files("chumpy")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("third_party/chumpy is not installed", allow_module_level=True)


def test_it_is_empty():
    if importlib.util.find_spec("chumpy") is not None:
        pytest.skip("the real chumpy is installed")
    assert files
    assert all(".dist-info" in file.parts[0] for file in files)
    assert importlib.metadata.requires("chumpy") is None


def test_it_meets_the_requirement_of_mmpose():
    requirements = pytest.importorskip("packaging.requirements")
    try:
        needed = importlib.metadata.requires("mmpose") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("mmpose is not installed")
    specifiers = [r.specifier for r in map(requirements.Requirement, needed) if r.name == "chumpy"]
    assert specifiers
    assert all(s.contains(importlib.metadata.version("chumpy")) for s in specifiers)
