"""The persons of COCO: two files of annotations joined into one. Knows its files and nothing of their format."""

from __future__ import annotations

import os

from bmp.datasets.people import PeopleDataset, find_root
from bmp.errors import UserError
from bmp.io.coco_json import read_labels
from bmp.registry import DATASETS

SMALL = 32**2
"""Area in square pixels below which COCO calls an object small."""

_SOURCE = "as COCO (Lin et al., 2014) publishes its 2017 images and annotations"


@DATASETS.register_module()
class COCO(PeopleDataset):
    """The persons of COCO 2017, with masks, and keypoints for those that have them.

    All images of the split are part of it, also those without anybody.

    Args:
        root: folder with ``annotations/instances_{split}.json``, ``annotations/person_keypoints_{split}.json`` and the
            images in ``{split}/``.
        split: "val2017" or "train2017".
        small: False drops people below 32 squared pixels from the ground truth, which is the paper's COCO*; see
            ``PeopleDataset`` for what that means.
        posed_only: True drops everybody without labelled keypoints, and small people, whom COCO gives none: Pose2Seg's
            COCOPersons, medium and large people with a pose. COCO* has people without a pose beside them.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "val2017",
        small: bool = True,
        posed_only: bool = False,
    ) -> None:
        small = small and not posed_only
        name = f"COCO{'Persons' if posed_only else '' if small else '*'} {split}"
        instances, keypoints = (f"annotations/{kind}_{split}.json" for kind in ("instances", "person_keypoints"))
        folder = find_root(name, root, (instances, keypoints, split), _SOURCE)
        super().__init__(folder / instances, folder / split, name, min_area=0 if small else SMALL)
        poses = {row["id"]: row for row in read_labels(folder / keypoints).dataset["annotations"]}
        for row in self.ground_truth["annotations"]:
            pose = poses.get(row["id"])
            if pose is None or pose["image_id"] != row["image_id"]:
                raise UserError(
                    f"{folder / keypoints}: annotation {row['id']} of {instances} is not in it; "
                    "the two files have to be of the same release"
                )
            if "keypoints" in pose:  # crowd regions and small people have 17 unlabelled ones there
                row["keypoints"], row["num_keypoints"] = pose["keypoints"], pose["num_keypoints"]
        if posed_only:
            self.ground_truth["annotations"] = [
                row for row in self.ground_truth["annotations"] if row["iscrowd"] or row["num_keypoints"] > 0
            ]
        if split == "val2017":
            self.published = "coco_persons_val" if posed_only else "coco_val" if small else "coco_star_val"
