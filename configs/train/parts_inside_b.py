"""Trains the parser of schnet_inside_b.py: modules in all blocks of SAM 1's ViT-B, on a person's crop, CLIP frozen.

    torchrun --nproc-per-node 8 -m bmp.training train/parts_inside_b.py --set data_root=DIR --export FILE.safetensors

Data and CLIP's weights as for train/parts_b+.py; SAM's own weights come from DIR/sam_vit_b_01ec64.pth. The last two
blocks learn, at a tenth of the rate: ``--set model.tuned=all`` for all of them, ``none`` for the modules alone.
"""

_base_ = ["parts_b+.py"]

data_root = "data"
model = dict(
    _delete_=True,
    type="CropParserTraining",
    model="inside_b",
    sam=f"{data_root}/sam_vit_b_01ec64.pth",
    semantics=f"{data_root}/clip.safetensors",
    tuned=2,
)
train_dataloader = dict(dataset=dict(dataset=dict(size=512)))
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={name: dict(lr_mult=0.1) for name in ("parser.blocks", "parser.patch_embed", "parser.pos_embed")}
    )
)
