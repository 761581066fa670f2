"""CLIP's weights become what a parser needs: the visual side, and the names of labels as embeddings."""

import pytest
import torch
from program import main_in
from safetensors.torch import load_file, save_file

from bmp.label_sets.part_sets import CIHP
from bmp.models.schnet import prepare
from bmp.models.schnet.semantics import TEMPLATES, CLIPSemantics

TINY = dict(
    embed_dim=16,
    vision_cfg=dict(image_size=32, layers=4, width=32, head_width=16, patch_size=8),
    text_cfg=dict(context_length=77, vocab_size=49408, width=16, heads=2, layers=1),
)


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A CLIP of the smallest size, and the file of its weights."""
    open_clip = pytest.importorskip("open_clip")  # slow to import
    tokenizer = open_clip.SimpleTokenizer()
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: TINY)
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda _: tokenizer)
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY).eval()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "clip.safetensors")
    return model, tokenizer


@pytest.mark.slow
def test_a_prepared_file_is_what_a_parser_loads(whole, tmp_path):
    model, tokenizer = whole
    code, out, err = main_in(
        tmp_path, "--clip", "clip.safetensors", "--model", "tiny", "--output", "new/out.safetensors", main=prepare.main
    )
    assert (code, err) == (0, "")
    assert "new/out.safetensors" in out
    state = load_file(tmp_path / "new" / "out.safetensors")
    semantics = CLIPSemantics(20, "tiny", (32, 32))
    semantics.load_state_dict(state)
    assert all(tensor.dtype == torch.float16 for tensor in state.values())
    torch.testing.assert_close(semantics.visual.proj, model.visual.proj, rtol=1e-2, atol=1e-2)
    with torch.no_grad():
        sentences = tokenizer([template.format("left arm") for template in TEMPLATES])
        expected = torch.nn.functional.normalize(model.encode_text(sentences), dim=1).mean(0)
    left_arm = semantics.text[CIHP.names.index("left arm")]
    torch.testing.assert_close(left_arm, expected / expected.norm(), rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_archives_are_refused(whole, tmp_path):
    (tmp_path / "ViT-B-16.pt").write_bytes(b"PK")
    code, _, err = main_in(tmp_path, "--clip", "ViT-B-16.pt", "--output", "out.safetensors", main=prepare.main)
    assert code == 2
    assert "TorchScript" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()
