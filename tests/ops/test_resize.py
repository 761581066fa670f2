"""Parts of a picture in another size, against the library's whole pictures."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from bmp.ops.resize import resized, squeezed


def _librarys(picture, size):
    """Plane by plane: with several of them the library takes other kernels, according to the number of threads."""
    planes = [F.interpolate(plane[None, None], size, mode="bilinear")[0, 0] for plane in picture.unbind(2)]
    return torch.stack(planes, dim=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "size"),
    [
        ((1, 2), (7, 135)),
        ((66, 90), (66, 90)),
        ((64, 48), (333, 217)),
        ((301, 413), (90, 48)),
        ((3, 400), (200, 5)),
        ((400, 3), (5, 200)),
        ((5, 300), (3, 299)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_number_is_the_librarys(values, size, channels):
    picture = torch.randn(*values, channels, generator=torch.Generator().manual_seed(sum(values)))
    whole = _librarys(picture, size)
    assert torch.equal(resized(picture, *size), whole)
    height, width = size
    for rows in ((0, 1), (height - 1, height), (height // 3, height // 3 + (height + 1) // 2), (height, height)):
        for columns in ((0, 1), (width - 1, width), (width // 4, width)):
            part = resized(picture, *size, rows, columns)
            assert torch.equal(part, whole[slice(*rows), slice(*columns)])


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (48, 64)])
def test_small_results_are_the_librarys_but_for_rounding(size):
    picture = torch.randn(9, 11, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resized(picture, *size), _librarys(picture, size), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_pixels_are_rounded_as_the_librarys():
    pixels = torch.randint(0, 256, (230, 310, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for size in ((96, 130), (115, 155), (460, 620), (230, 310)):
        assert torch.equal(resized(pixels, *size).round(), _librarys(pixels.float(), size).round())


@pytest.mark.parametrize("size", [(1, 1), (150, 37), (20, 90)])
def test_squares_are_the_librarys(size):
    pixels = torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    planes = pixels.permute(2, 0, 1)[None].float() / 255
    whole = F.interpolate(planes, (32, 32), mode="bilinear", antialias=True)[0]
    square = squeezed(pixels, 32)
    assert square.is_contiguous()
    torch.testing.assert_close(square, whole, rtol=0, atol=1e-6)
