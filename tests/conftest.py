"""Fixtures that every test may use."""

import os
from collections import OrderedDict
from pathlib import Path

import hypothesis
import pytest
from mmengine.registry import DefaultScope

# Continuous integration runs on slow and busy machines: how long an example takes says nothing there.
hypothesis.settings.register_profile("bmp", deadline=None)
hypothesis.settings.register_profile("fast", deadline=None, max_examples=20)

_SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


def pytest_configure(config):
    """Try fewer examples where the slow tests are left out, too."""
    hypothesis.settings.load_profile("fast" if config.option.markexpr == "not slow" else "bmp")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes():
    """Give each worker one thread, before it starts: several processes of several threads wait for each other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _default_scope():
    """Begin each test without a default scope of MMEngine: whoever sets it sets it for the rest of the process.

    So what a test finds in a registry does not depend on the tests before it, nor on fixtures of a module.
    """
    before, DefaultScope._instance_dict = DefaultScope._instance_dict, OrderedDict()
    yield
    DefaultScope._instance_dict = before


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference vectors and photos that developers and CI have and users do not."""
    if not _SHARED.is_dir():
        pytest.skip("the folder shared/ with reference vectors and photos is not beside this checkout")
    return _SHARED.resolve()
