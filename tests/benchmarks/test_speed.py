"""What is printed of speed: tables of the pages are those of the results, and a config beside ours gets made-up weights."""

import argparse
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def draw_speed(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "docs")])
    import draw_speed

    return draw_speed


def test_tables_of_the_pages_are_those_of_the_results(draw_speed):
    for page in draw_speed.PAGES:
        text = page.read_text(encoding="utf-8")
        assert "<!-- speed: " in text, page
        assert draw_speed.with_tables(text) == text, f"{page}: run python docs/draw_speed.py"


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    import speed

    return speed


@pytest.mark.parametrize("preset", ["bmp_v2.py", "modern.py"])
def test_made_up_weights_have_what_their_networks_need(speed, preset):
    options = argparse.Namespace(config="nano.py", random_weights=True, people=4, set=["pipeline.rounds=3"])
    config = speed._config(options, ours=False, preset=preset)
    for stage in ("detector", "pose", "segmenter"):
        part = config.pipeline[stage]
        assert part.checkpoint == "random"
        assert not part.type.startswith("Transformers") or part.config
    assert config.pipeline.rounds != 3  # what is set is set for our side alone
    assert config.pipeline.segmenter.speck_area == 0


def test_engines_and_number_formats_are_those_of_stages_that_have_them(speed):
    options = argparse.Namespace(config="bmp_v2.py", random_weights=True, people=None, set=[])
    pipeline = speed._config(options, ours=True, engine="openvino:bfloat16").pipeline
    for stage in ("detector", "pose", "segmenter"):
        assert (pipeline[stage].engine, pipeline[stage].dtype) == ("openvino", "bfloat16")
    assert "engine" not in pipeline.segmenter.prompter
