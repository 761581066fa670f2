"""SAM-PT on the networks of SAM 1 and SAM 2.1, small ones with made-up weights: the questions fit them all."""

import pytest
import tiny_models
import torch
from prompt_fakes import PosePrompter
from sam_pt_fakes import RightTracker, film_of, mask_in, textured

from bmp.sam_pt import SAMPT, Query, Reinitialisation
from bmp.segmenters.sam1 import SAM1Segmenter
from bmp.segmenters.sam2 import SAM2Segmenter
from bmp.stages import PromptableSegmenter

FRAMES = textured(lambda t: (10 + 2 * t, 5, 40 + 2 * t, 45), lambda t: (60, 30, 90, 70), count=4)


@pytest.fixture(params=["sam1", "sam2"])
def segmenter(request, tmp_path, monkeypatch):
    if request.param == "sam1":
        registry = pytest.importorskip("segment_anything").sam_model_registry
        monkeypatch.setitem(registry, "tiny", tiny_models.sam1)
        return SAM1Segmenter(PosePrompter(), "random", "tiny")
    pytest.importorskip("sam2")
    return SAM2Segmenter(PosePrompter(), "random", tiny_models.sam2_config(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(None, id="once"),
        pytest.param(Reinitialisation("similar-area-and-sync", 3), id="anew", marks=pytest.mark.slow),
    ],
)
def test_it_runs_on_all_of_them(segmenter, rule):
    assert isinstance(segmenter, PromptableSegmenter)
    model = SAMPT(RightTracker({0: (2, 0)}), segmenter, refinements=2, min_score=0.0, reinitialisation=rule)
    queries = [Query(1, 0, mask_in(FRAMES[0], 0)), Query(2, 0, points=torch.tensor([[75.0, 50.0]]))]
    results = list(model.run(film_of(FRAMES), queries))
    again = list(model.run(film_of(FRAMES), queries))
    assert [result.objects.ids.tolist() for result in results] == [[1, 2]] * 4
    assert torch.equal(results[0].bits[0], mask_in(FRAMES[0], 0))
    for result, other in zip(results, again, strict=True):
        assert result.bits.shape == (2, 80, 100)
        assert not (result.bits[0] & result.bits[1]).any()
        assert torch.equal(result.bits, other.bits)


def test_full_size_logits_are_above_0_where_the_mask_is(segmenter):
    (view,) = segmenter.open([FRAMES[0].image])
    logits = torch.randn(3, *segmenter.logit_size, generator=torch.Generator().manual_seed(0))
    full = segmenter.enlarge(view, logits)
    assert full.shape == (3, 80, 100)
    assert torch.equal(full > 0, segmenter.bits(view, logits))
