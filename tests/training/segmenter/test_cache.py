"""Embeddings on disk: what is written is read, and nobody else's."""

import pytest
import torch
from torch import nn

from bmp.errors import UserError
from bmp.training.segmenter.cache import EmbeddingCache, encoder_key, image_key


def encoder(seed=0, bias=True):
    torch.manual_seed(seed)
    return nn.Conv2d(3, 4, 2, bias=bias)


EMBEDDING = (torch.rand(4, 8, 8), torch.rand(4, 4, 4) * 50 - 25)


def test_what_is_written_is_read_in_half_precision(tmp_path):
    cache = EmbeddingCache(tmp_path, encoder())
    assert cache.read("abc") is None
    cache.write("abc", EMBEDDING)
    read = EmbeddingCache(tmp_path, encoder()).read("abc")
    assert [level.dtype for level in read] == [torch.float16] * 2
    for level, original in zip(read, EMBEDDING, strict=True):
        torch.testing.assert_close(level.float(), original, rtol=1e-3, atol=1e-4)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("other", "detail"),
    [(encoder(seed=1), ""), (encoder(bias=False), ""), (encoder().double(), ""), (encoder(), "bfloat16")],
)
def test_another_encoder_finds_nothing(other, detail, tmp_path):
    EmbeddingCache(tmp_path, encoder()).write("abc", EMBEDDING)
    assert EmbeddingCache(tmp_path, other, detail).read("abc") is None
    assert encoder_key(other, detail) != encoder_key(encoder())


def test_one_weight_more_or_less_is_another_encoder():
    changed = encoder()
    with torch.no_grad():
        changed.weight[3, 2, 1, 0] += 1e-6
    assert encoder_key(changed) != encoder_key(encoder())


def test_a_broken_file_counts_as_none(tmp_path):
    cache = EmbeddingCache(tmp_path, encoder())
    cache.write("abc", EMBEDDING)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    assert cache.read("abc") is None
    cache.write("abc", EMBEDDING)
    assert cache.read("abc") is not None


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written, Not a directory; make room, or train with cache=None$"):
        EmbeddingCache(tmp_path / "file", encoder()).write("abc", EMBEDDING)


def test_an_image_is_known_by_its_content():
    image = torch.randint(0, 255, (3, 8, 8), dtype=torch.uint8)
    other = image.clone()
    other[2, 7, 7] += 1
    assert image_key(image) == image_key(image.clone())
    assert image_key(image) != image_key(other)
    assert image_key(image) != image_key(image.flip(2))
