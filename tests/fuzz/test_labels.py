"""Broken labels and boxes get one clear answer; more of them with ``python tests/fuzz/labels.py --count 1500``."""

import frame
import labels
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("kind", labels.TRIALS)
def test_broken_files_are_read_or_refused_in_one_line(kind):
    findings = frame.run(labels.TRIALS[kind], count=200, seed=20)
    assert findings.failures == []
    # Neither everything nor nothing is refused: the mutations are worth something.
    assert findings.outcomes["refused"] > 40
    assert findings.outcomes["read"] > 20
