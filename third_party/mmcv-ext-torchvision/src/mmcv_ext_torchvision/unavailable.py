"""Stand-ins for the operators of `mmcv._ext` that are not implemented: each says so when it is called.

`mmcv.ops` loads every operator by name when it is imported, whether or not a model will call it.
"""

from collections.abc import Callable
from typing import Any, NoReturn

UNAVAILABLE = (
    "active_rotated_filter_backward",
    "active_rotated_filter_forward",
    "assign_score_withk_backward",
    "assign_score_withk_forward",
    "ball_query_forward",
    "bezier_align_backward",
    "bezier_align_forward",
    "bias_act",
    "border_align_backward",
    "border_align_forward",
    "box_iou_quadri",
    "box_iou_rotated",
    "chamfer_distance_backward",
    "chamfer_distance_forward",
    "contour_expand",
    "convex_giou",
    "convex_iou",
    "correlation_backward",
    "correlation_forward",
    "deform_roi_pool_backward",
    "deform_roi_pool_forward",
    "diff_iou_rotated_sort_vertices_forward",
    "dynamic_point_to_voxel_backward",
    "dynamic_point_to_voxel_forward",
    "dynamic_voxelize_forward",
    "filtered_lrelu",
    "filtered_lrelu_act_",
    "furthest_point_sampling_forward",
    "furthest_point_sampling_with_dist_forward",
    "fused_bias_leakyrelu",
    "fused_indice_conv_forward",
    "gather_points_backward",
    "gather_points_forward",
    "get_indice_pairs_2d_backward",
    "get_indice_pairs_2d_forward",
    "get_indice_pairs_3d_backward",
    "get_indice_pairs_3d_forward",
    "get_indice_pairs_4d_forward",
    "group_points_backward",
    "group_points_forward",
    "hard_voxelize_forward",
    "indice_conv_backward",
    "indice_conv_forward",
    "indice_maxpool_backward",
    "indice_maxpool_forward",
    "iou3d_boxes_overlap_bev_forward",
    "iou3d_nms3d_forward",
    "iou3d_nms3d_normal_forward",
    "knn_forward",
    "min_area_polygons",
    "nms_quadri",
    "nms_rotated",
    "pixel_group",
    "points_in_boxes_all_forward",
    "points_in_boxes_cpu_forward",
    "points_in_boxes_part_forward",
    "points_in_polygons_forward",
    "prroi_pool_backward",
    "prroi_pool_coor_backward",
    "prroi_pool_forward",
    "psamask_backward",
    "psamask_forward",
    "riroi_align_rotated_backward",
    "riroi_align_rotated_forward",
    "roi_align_rotated_backward",
    "roi_align_rotated_forward",
    "roi_pool_backward",
    "roi_pool_forward",
    "roiaware_pool3d_backward",
    "roiaware_pool3d_forward",
    "roipoint_pool3d_forward",
    "rotated_feature_align_backward",
    "rotated_feature_align_forward",
    "stack_ball_query_forward",
    "stack_group_points_backward",
    "stack_group_points_forward",
    "sync_bn_backward_data",
    "sync_bn_backward_param",
    "sync_bn_forward_mean",
    "sync_bn_forward_output",
    "sync_bn_forward_var",
    "three_interpolate_backward",
    "three_interpolate_forward",
    "three_nn_forward",
    "tin_shift_backward",
    "tin_shift_forward",
    "upfirdn2d",
)


def unavailable(name: str) -> Callable[..., NoReturn]:
    """Return a function that raises NotImplementedError with the operator's name and the way out."""

    def operator(*arguments: Any, **options: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's operator {name} is not implemented by mmcv-ext-torchvision; a model that needs it needs a "
            "compiled mmcv in place of mmcv-lite (pip uninstall mmcv-lite mmcv-ext-torchvision, then build mmcv 2.1.0)"
        )

    operator.__name__ = operator.__qualname__ = name
    return operator
