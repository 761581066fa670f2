"""Fixtures that every test may use."""

from pathlib import Path

import hypothesis
import pytest

# Continuous integration runs on slow and busy machines: how long an example takes says nothing there.
hypothesis.settings.register_profile("bmp", deadline=None)
hypothesis.settings.load_profile("bmp")

_SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference vectors and photos that developers and CI have and users do not."""
    if not _SHARED.is_dir():
        pytest.skip("the folder shared/ with reference vectors and photos is not beside this checkout")
    return _SHARED.resolve()
