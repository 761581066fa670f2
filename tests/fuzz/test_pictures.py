"""Broken pictures of all formats, by the fuzzer in ``pictures.py``."""

import frame
import pictures
import pytest


@pytest.mark.slow
def test_broken_pictures_are_images_or_one_line():
    findings = frame.run(pictures.read_picture, 400)
    assert not findings.failures
    assert min(findings.outcomes["read"], findings.outcomes["refused"]) > 50
