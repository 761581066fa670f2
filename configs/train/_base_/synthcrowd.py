"""Where the trainings of the nano networks look for SynthCrowd, and the commands that make its files."""

data_root = "output/synthcrowd"

_generate = "python -m bmp.synthcrowd --output {data_root} --extras --overwrite --splits"
_estimate = "python -m bmp.inference.keypoints --config nano.py --masks --images {data_root}"
made_by = [
    *(
        dict(file=f"{data_root}/{name}.json", command=f"{_generate} {name.removesuffix('_pieces')}")
        for name in ("train", "train_pieces", "val")
    ),
    *(
        dict(
            file=f"{data_root}/keypoints/{split}.json",
            command=f"{_estimate} --dataset {{data_root}}/{split}.json --output {{data_root}}/keypoints/{split}.json",
        )
        for split in ("train", "val")
    ),
]
# These were shorthands; as entries they could be overridden without any effect.
del _generate, _estimate
