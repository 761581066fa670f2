"""The nano family on SynthCrowd, for benchmarks/ablations.py: SAM nano and its fine-tunings, three seeds of each.

Base and SAM-pose2seg nano come with the package. A table without the others prints the commands that train them.
"""

pose = dict(type="MMPoseEstimator", config="models/pmpose_nano.py", checkpoint="nano/pmpose-nano.safetensors")
# PMPose is conditioned on masks, which this one makes of the labelled people.
detector = dict(type="MMDetDetector", config="models/rtmdet_ins_nano.py", checkpoint="nano/rtmdet-ins-nano.safetensors")

sam = dict(type="SAM2Segmenter", model="models/sam2_nano.yaml", hole_area=2, speck_area=4)
segmenters = dict(
    base=dict(name="SAM nano", config=sam, weights={"nano/sam2-nano.safetensors": "make train-nano"}),
    pose2seg=dict(
        name="SAM-pose2seg nano", config=sam, weights={"nano/sam-pose2seg-nano.safetensors": "make train-nano"}
    ),
    pose_mask_refine=dict(name="SAM nano with PoseMaskRefine", config=sam, weights={}),
    mask_refine=dict(name="SAM nano with MaskRefine", config=sam, weights={}),
    pose1_mask_refine=dict(name="SAM nano with Pose1MaskRefine", config=sam, weights={}),
    max_visibility=dict(name="SAM nano with MaxVisibility", config=sam, weights={}),
    max_spread=dict(name="SAM nano with MaxSpread", config=sam, weights={}),
)
for recipe, segmenter in segmenters.items():
    if not segmenter["weights"]:
        for seed in range(3):
            run = f"{recipe}-seed{seed}" if seed else recipe
            # The order of the samples has a seed of its own.
            other = f" --set randomness.seed={seed} --set train_dataloader.dataset.seed={seed}" if seed else ""
            segmenter["weights"][f"output/nano/{run}.safetensors"] = (
                f"python -m bmp.training train/sam_nano_{recipe}.py{other} --resume "
                f"--work-dir output/train/sam_nano_{run} --export output/nano/{run}.safetensors"
            )

most_visible, spread = "MaxVisibility", "MaxSpread"
recipes = [
    dict(train="no fine-tuning", segmenter="base", prompter=dict(type=most_visible, count=6), published="SAM 2.1"),
    dict(train="no fine-tuning", segmenter="base", prompter=dict(type=spread, count=6), published="SAM 2.1"),
    dict(
        train="MaxVisibility",
        segmenter="max_visibility",
        prompter=dict(type=most_visible, count=6),
        published="SAM 2.1 tuned on COCO with MaxVisibility",
    ),
    dict(
        train="MaxSpread",
        segmenter="max_spread",
        prompter=dict(type=spread, count=6),
        published="SAM 2.1 tuned on COCO+CIHP with MaxSpread",
    ),
    dict(
        train="MaskRefine",
        segmenter="mask_refine",
        prompter=dict(type=most_visible, count=3),
        published="SAM 2.1 tuned on COCO+CIHP with MaskRefine",
    ),
    dict(
        train="Pose1MaskRefine",
        segmenter="pose1_mask_refine",
        prompter=dict(type=most_visible, count=3),
        published="SAM 2.1 tuned on COCO+CIHP with Pose1MaskRefine",
    ),
    dict(
        train="PoseMaskRefine",
        segmenter="pose_mask_refine",
        prompter=dict(type=most_visible, count=3),
        published="SAM-pose2seg (COCO+CIHP with PoseMaskRefine)",
    ),
    dict(
        train="PoseMaskRefine with several points, longer",
        segmenter="pose2seg",
        prompter=dict(type=most_visible, count=3),
        published="SAM-pose2seg (COCO+CIHP with PoseMaskRefine)",
    ),
]

datasets = dict(
    test=dict(type="SynthCrowd", split="test"),
    test_hard=dict(type="SynthCrowd", split="test-hard"),
    test_clear=dict(type="SynthCrowd", split="test-clear"),
)
# These were shorthands; as entries they could be overridden without any effect.
del sam, segmenter, recipe, seed, run, other, most_visible, spread
