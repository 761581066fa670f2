"""The nano pipeline on SynthCrowd test, as python -m bmp.synthcrowd writes it."""

_base_ = ["_base_/bmp.py"]

model = dict(pipeline="nano.py")
test_dataloader = dict(
    dataset=dict(data_root="output/synthcrowd", ann_file="test.json", data_prefix=dict(img="")),
)
