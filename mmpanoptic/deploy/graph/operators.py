"""Export mmcv's operators as standard ONNX operators.

mmcv exports RoIAlign without ``coordinate_transformation_mode``, whose default changed in ONNX opset 16. It exports the
other operators as custom operators that no runtime has.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mmcv.ops
import torch
from mmcv.ops.deform_conv import DeformConv2dFunction
from mmcv.ops.modulated_deform_conv import ModulatedDeformConv2dFunction
from mmcv.ops.roi_align import RoIAlignFunction
from torch import Tensor, nn

#: More runtimes read files with an older opset. DeformConv needs opset 19.
OPSET, OPSET_OF_DEFORM_CONV = 17, 19


def _roi_align(g, feats, rois, output_size, spatial_scale, sampling_ratio, pool_mode, aligned):
    """ONNX RoiAlign. As in mmcv, a ``sampling_ratio`` of 0 means ceil(bin size) samples in each direction."""
    column = g.op('Constant', value_t=torch.tensor([0]))
    corners = g.op('Constant', value_t=torch.tensor([1, 2, 3, 4]))
    axis = g.op('Constant', value_t=torch.tensor([1]))
    batch = g.op('Squeeze', g.op('Gather', rois, column, axis_i=1), axis)
    batch = g.op('Cast', batch, to_i=torch.onnx.TensorProtoDataType.INT64)
    height, width = (output_size, output_size) if isinstance(output_size, int) else output_size
    return g.op(
        'RoiAlign',
        feats,
        g.op('Gather', rois, corners, axis_i=1),
        batch,
        coordinate_transformation_mode_s='half_pixel' if aligned else 'output_half_pixel',
        output_height_i=height,
        output_width_i=width,
        spatial_scale_f=spatial_scale,
        sampling_ratio_i=max(0, sampling_ratio),
        mode_s=pool_mode,
    )


def _modulated_deform_conv(
    g, x, offset, mask, weight, bias, stride, padding, dilation, groups, deform_groups
):  # fmt: skip
    """ONNX DeformConv. As in mmcv, offsets are (dy, dx) for each tap."""
    if bias is None:
        bias = g.op('Constant', value_t=torch.zeros(weight.type().sizes()[0]))
    inputs = x, weight, offset, bias, mask
    return _deform_op(g, inputs, stride, padding, dilation, groups, deform_groups)


def _deform_conv(
    g, x, offset, weight, stride, padding, dilation, groups, deform_groups, *_
):  # fmt: skip
    return _deform_op(g, (x, weight, offset), stride, padding, dilation, groups, deform_groups)


def _deform_op(g, inputs, stride, padding, dilation, groups, deform_groups):
    pairs = [(pair, pair) if isinstance(pair, int) else tuple(pair) for pair in (stride, padding, dilation)]
    return g.op(
        'DeformConv',
        *inputs,
        strides_i=pairs[0],
        pads_i=pairs[1] * 2,
        dilations_i=pairs[2],
        group_i=groups,
        offset_group_i=deform_groups,
    )


@contextmanager
def onnx_operators() -> Iterator[None]:
    """Export mmcv's operators as standard ONNX operators inside the context."""
    replaced: dict[Any, Callable[..., Any]] = {
        RoIAlignFunction: _roi_align,
        DeformConv2dFunction: _deform_conv,
        ModulatedDeformConv2dFunction: _modulated_deform_conv,
    }
    before = {function: function.__dict__['symbolic'] for function in replaced}
    try:
        for function, symbolic in replaced.items():
            function.symbolic = staticmethod(symbolic)
        yield
    finally:
        for function, symbolic in before.items():
            function.symbolic = symbolic


class _Suppression(torch.autograd.Function):
    """Non-maximum suppression of boxes of one class."""

    @staticmethod
    def forward(ctx, boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> Tensor:
        """Indices of the kept boxes, int64, best first."""
        if not len(boxes):
            return scores.new_zeros(0, dtype=torch.long)
        return mmcv.ops.nms(boxes, scores, iou_threshold)[1][:limit]

    @staticmethod
    def symbolic(g, boxes, scores, iou_threshold, limit):
        """ONNX NonMaxSuppression with one image and one class. It gives rows (batch, class, box)."""

        def constant(value: object, dtype: torch.dtype) -> object:
            return g.op('Constant', value_t=torch.tensor(value, dtype=dtype))

        chosen = g.op(
            'NonMaxSuppression',
            g.op('Unsqueeze', boxes, constant([0], torch.long)),
            g.op('Unsqueeze', scores, constant([0, 1], torch.long)),
            constant([limit], torch.long),
            constant([iou_threshold], torch.float32),
        )
        return g.op('Gather', chosen, constant(2, torch.long), axis_i=1)


def suppress(boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float, limit: int) -> Tensor:
    """Non-maximum suppression as in mmcv's ``batched_nms``.

    Args:
        boxes: Boxes of shape (N, 4), without negative coordinates.
        scores: Scores of shape (N,).
        groups: Group of each box, of shape (N,). Only boxes of the same group suppress each other. None: one group.
        iou_threshold: Largest IoU of a kept box with a better one.
        limit: Largest number of kept boxes.

    Returns:
        Indices of the kept boxes, int64, best first.
    """
    if groups is not None:  # shift the groups apart as batched_nms does, with the same rounding
        largest = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max()
        boxes = boxes + (groups.to(boxes.dtype) * (largest + 1))[:, None]
    return _Suppression.apply(boxes, scores, iou_threshold, limit)


def opset_of(model: nn.Module) -> int:
    """The oldest opset that has all operators of a model."""
    deformable = mmcv.ops.DeformConv2d, mmcv.ops.ModulatedDeformConv2d
    return OPSET_OF_DEFORM_CONV if any(isinstance(part, deformable) for part in model.modules()) else OPSET
