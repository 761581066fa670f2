"""Reference vectors of the sampling of an image's levels in people's windows."""

import torch
from reference_vectors import read_vectors

from bmp.models.samp import grid_points, sample


def test_levels_are_sampled_as_the_formula_says(shared):
    expected = read_vectors(shared, "samp_sampling.npz")
    height, width = expected["image_size"].tolist()
    centers, sizes = (torch.from_numpy(expected[name]) for name in ("centers", "sizes"))
    for level in range(3):
        samples = torch.from_numpy(expected[f"samples{level}"])
        points = grid_points(centers, sizes, *samples.shape[-2:])
        found = sample(torch.from_numpy(expected[f"level{level}"])[None], points, height, width)
        torch.testing.assert_close(found, samples, atol=5e-5, rtol=0)
