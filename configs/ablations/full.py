"""The paper's models on the paper's data sets, for benchmarks/ablations.py.

A data set is used once its folder is named, --set datasets.ochuman_test.root=DIR; docs/datasets.md lists the files that
it has to contain. Recipes other than SAM-pose2seg have no published weights; the commands that Table 1 prints train
them, where DIR is the folder that the config of the training describes.
"""

# ProbPose takes boxes alone. For PMPose name a detector as well, as in nano.py: it needs masks.
pose = dict(type="MMPoseEstimator", config="models/probpose_s.py", checkpoint="ProbPose-s.pth", alpha=0.0)

sam = dict(type="SAM2Segmenter", model="sam2.1_hiera_b+")
segmenters = dict(
    base=dict(name="SAM 2.1", config=sam, weights={"sam2.1_hiera_base_plus.pt": None}),
    pose2seg=dict(name="SAM-pose2seg", config=sam, weights={"SAM-pose2seg_hiera_b+.pt": None}),
    sam1=dict(name="SAM 1", config=dict(type="SAM1Segmenter", model="vit_l"), weights={"sam_vit_l_0b3195.pth": None}),
)
recipes = [
    dict(train="no fine-tuning", segmenter="base", prompter=dict(type="MaxVisibility", count=6), published="SAM 2.1"),
    dict(train="no fine-tuning", segmenter="base", prompter=dict(type="MaxSpread", count=6), published="SAM 2.1"),
]
for data, train, sampler, prompter in (
    ("COCO", "MaxVisibility", dict(type="MaxVisibilityPoints", count=6), dict(type="MaxVisibility", count=6)),
    ("COCO", "MaxSpread", dict(type="MaxSpreadPoints", count=6), dict(type="MaxSpread", count=6)),
    ("COCO+CIHP", "MaxSpread", dict(type="MaxSpreadPoints", count=6), dict(type="MaxSpread", count=6)),
    ("COCO", "MaskRefine", dict(type="MaskRefine"), dict(type="MaxVisibility", count=3)),
    ("COCO+CIHP", "MaskRefine", dict(type="MaskRefine"), dict(type="MaxVisibility", count=3)),
    ("COCO+CIHP", "Pose1MaskRefine", dict(type="Pose1MaskRefine"), dict(type="MaxVisibility", count=3)),
):
    run = f"{data}_{train}".replace("+", "_").lower()
    only = " --set train_dataloader.dataset.sources.cihp.weight=0" if data == "COCO" else ""
    segmenters[run] = dict(
        name=f"SAM 2.1 tuned on {data} with {train}",
        config=sam,
        weights={
            f"output/full/{run}.safetensors": (
                "torchrun --nproc-per-node 8 -m bmp.training train/sam_pose2seg_b+.py --set data_root=DIR --set "
                f'"model.sampler={sampler}"{only} --resume --work-dir output/train/{run} '
                f"--export output/full/{run}.safetensors"
            )
        },
    )
    recipes.append(
        dict(
            train=f"{train} on {data}",
            segmenter=run,
            prompter=prompter,
            published=f"SAM 2.1 tuned on {data} with {train}",
        )
    )
recipes.append(
    dict(
        train="PoseMaskRefine on COCO+CIHP",
        segmenter="pose2seg",
        prompter=dict(type="MaxVisibility", count=3),
        published="SAM-pose2seg (COCO+CIHP with PoseMaskRefine)",
    )
)

datasets = dict(
    coco_val=dict(type="COCO", root=None, split="val2017", published="coco_val"),
    coco_star_val=dict(type="COCO", root=None, split="val2017", small=False, published="coco_star_val"),
    coco_persons_val=dict(type="COCO", root=None, split="val2017", posed_only=True, published="coco_persons_val"),
    ochuman_test=dict(type="OCHuman", root=None, split="test", published="ochuman_test"),
    ochuman_val=dict(type="OCHuman", root=None, split="val", published="ochuman_val"),
    cihp_val=dict(type="CIHP", root=None, split="val", published="cihp_val"),
)
# These were shorthands; as entries they could be overridden without any effect.
del sam, data, train, sampler, prompter, run, only
