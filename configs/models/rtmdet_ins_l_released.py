"""RTMDet-Ins-L with the limit of the release: 40 boxes, where MMDetection gives 100. See ReleasedMMDetDetector."""

_base_ = ["mmdet::rtmdet/rtmdet-ins_l_8xb32-300e_coco.py"]

model = dict(test_cfg=dict(max_per_img=40))
