"""Runs resumed from damaged files, by the fuzzer in ``journals.py``."""

import frame
import journals
import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("name", "common"), [("people.json", {"refused"}), ("journal", {"done again", "refused"})])
def test_damage_is_refused_or_done_again(name, common):
    journals._whole()
    findings = frame.run(journals.TRIALS[name], 60)
    assert not findings.failures
    assert all(findings.outcomes[outcome] > 5 for outcome in common)
