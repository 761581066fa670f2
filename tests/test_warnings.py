"""The settings of pytest: what the package warns of is an error in its tests, and so is what it leaves open."""

import warnings

import pytest


@pytest.mark.parametrize("module", ["bmp", "bmp.ops.boxes", "bmp.models.pmpose.heads"])
@pytest.mark.parametrize("kind", [UserWarning, DeprecationWarning, ResourceWarning, FutureWarning])
def test_warnings_of_every_module_of_the_package_are_errors(module, kind):
    with pytest.raises(kind, match="planted"):
        exec("import warnings; warnings.warn('planted', kind)", {"__name__": module, "kind": kind})


@pytest.mark.parametrize(
    "kind", [pytest.PytestUnraisableExceptionWarning, pytest.PytestUnhandledThreadExceptionWarning]
)
def test_errors_that_python_could_only_report_are_errors(kind):
    """Such as that of a file which nobody closed, or of a thread."""
    with pytest.raises(kind):
        warnings.warn(kind("planted"), stacklevel=1)
