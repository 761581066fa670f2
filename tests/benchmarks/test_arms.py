"""The ablations of SAMP and of the parser: every arm can be built, and their tables tell seeds apart."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bmp.errors import UserError
from bmp.models.schnet.network import settings_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def benchmark_named() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "benchmarks"))


def test_every_config_of_samp_is_an_arm(benchmark_named: Any) -> None:
    configs = {path.stem for path in (ROOT / "configs" / "train" / "samp_arms").glob("*.py")}
    assert configs == set(benchmark_named("samp_arms").ARMS)


def test_every_arm_of_the_parser_is_a_network_of_its_own(benchmark_named: Any) -> None:
    parts_arms = benchmark_named("parts_arms")
    arms, texts = parts_arms.ARMS, parts_arms.TEXTS
    described = [repr((settings_of(model), changes, texts.get(arm))) for arm, (model, changes) in arms.items()]
    assert len(set(described)) == len(arms)
    assert arms.keys() >= texts.keys()


def test_tables_have_the_mean_and_the_ends_of_several_seeds(benchmark_named: Any) -> None:
    samp_arms = benchmark_named("samp_arms")

    def measured(ap: float) -> dict[str, Any]:
        return {f"{split}, {masks}": {"AP": ap} for split in samp_arms.SPLITS for masks in samp_arms.MASKS}

    table = samp_arms._table({"full": {"0": measured(0.2), "1": measured(0.3)}, "no_stem": {"0": measured(0.1)}}, "AP")
    assert "| full | 2" + 6 * " | 25.0 (20.0 to 30.0)" + " |" in table
    assert "| no_stem | 1" + 6 * " | 10.0" + " |" in table
    assert "| full | 2" + 6 * " | -" + " |" in samp_arms._table(
        {"full": {"0": measured(0.2), "1": measured(0.3)}}, "OKS"
    )


def test_results_of_other_settings_are_not_gone_on_with(benchmark_named: Any, tmp_path: Path) -> None:
    common, path = benchmark_named("common"), tmp_path / "results.json"
    assert common.begun(path, {"scenes": 3}) == {"arms": {}, "settings": {"scenes": 3}}
    path.write_text('{"arms": {"full": {}}, "settings": {"scenes": 3}}')
    assert common.begun(path, {"scenes": 3})["arms"] == {"full": {}}
    with pytest.raises(UserError, match="choose another --output"):
        common.begun(path, {"scenes": 4})
