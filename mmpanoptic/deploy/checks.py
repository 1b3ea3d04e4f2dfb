"""Check that a model and its test pipeline can be exported."""

from collections.abc import Iterator
from typing import Any

from mmdet.models import BaseDetector
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmengine.config import Config

from mmpanoptic.datasets.pipelines import steps_of_test, type_of
from mmpanoptic.models.detectors import CIAE, PanopticFPN, SpatialFlow
from mmpanoptic.models.fusion import BaseFusionHead, BoxFillFusion, EmbeddingFusion, HeuristicFusion, RankingFusion
from mmpanoptic.models.roi_heads.detectron_roi_head import DetectronRoIHead
from mmpanoptic.utils import UserError

from .graph.image import Preparation

#: Types of steps that a test pipeline may have.
_STEPS = ('LoadImageFromFile', 'Resize', 'LoadPanopticAnnotations', 'LoadAnnotations', 'PackPanopticInputs',
          'PackDetInputs')  # fmt: skip


def require_exportable(model: BaseDetector) -> None:
    """Refuse a model with a part that cannot be exported.

    Raises:
        UserError: If there is such a part; the error names it.
    """
    if not isinstance(model, (PanopticFPN, SpatialFlow, CIAE)):
        raise UserError(f'{type(model).__name__} cannot be exported: Panoptic FPN, OANet, SpatialFlow and CIAE can')
    for reason in _reasons(model, model.panoptic_fusion_head):
        raise UserError(f'{type(model).__name__} cannot be exported: {reason}')


def _reasons(model: BaseDetector, head: BaseFusionHead) -> Iterator[str]:
    """Reasons why a model cannot be exported."""
    if type(head) not in (HeuristicFusion, BoxFillFusion, RankingFusion, EmbeddingFusion):
        yield f'panoptic_fusion_head is a {type(head).__name__}'
    if head.stuff_area_mode != 'segment':
        yield f"stuff_area_mode {head.stuff_area_mode!r}: components are not found in a graph: set it to 'segment'"
    if not model.num_things_classes:
        yield 'no class is a thing'
    if isinstance(model, CIAE) and model.oracle:
        yield 'its oracle takes the ground truth'
    if isinstance(model, PanopticFPN):
        roi_head = model.roi_head
        cfgs = [model.test_cfg.rpn, model.test_cfg.rcnn]
        if isinstance(roi_head, DetectronRoIHead):
            yield 'roi_head DetectronRoIHead pastes masks by another rule: take StandardRoIHead'
        if roi_head.with_shared_head or not isinstance(roi_head.bbox_head, BBoxHead):
            yield 'roi_head has a shared head, or several box heads'
    else:
        cfgs = [model.bbox_head.test_cfg]
    for part in model.modules():
        coder = getattr(part, 'bbox_coder', None)
        if (
            coder is not None
            and isinstance(model, (PanopticFPN, SpatialFlow))
            and type(coder) is not DeltaXYWHBBoxCoder
        ):
            yield f'bbox_coder {type(coder).__name__}: only DeltaXYWHBBoxCoder can be'
    for cfg in cfgs:
        if cfg.nms.get('type', 'nms') != 'nms' or set(cfg.nms) - {'type', 'iou_threshold', 'class_agnostic'}:
            yield f"test_cfg: suppression by {dict(cfg.nms)}: only type='nms' with iou_threshold can be"


def preparation_of(model: BaseDetector, config: Config) -> Preparation:
    """Conversion of images by a config's test pipeline and the model's data preprocessor.

    Raises:
        UserError: If a step of the pipeline cannot be exported; the error names the step.
    """
    name = config.filename or 'the config'
    steps = steps_of_test(config)
    resizes = [step for step in steps if isinstance(step, dict) and type_of(step) == 'Resize']
    others = [type_of(step) for step in steps if type_of(step) not in _STEPS]
    if others or len(resizes) != 1:
        what = f'{others[0]} cannot be exported' if others else f'it has {len(resizes)} steps of type Resize, not one'
        raise UserError(f'{name}: test pipeline: {what}: a graph loads, resizes and normalises')
    resize, preprocessor = resizes[0], model.data_preprocessor
    scale = resize.get('scale')
    known = {'type', 'scale', 'keep_ratio', 'backend', 'interpolation'}
    if (
        not isinstance(scale, (tuple, list))
        or set(resize) - known
        or resize.get('interpolation', 'bilinear') != 'bilinear'
    ):
        raise UserError(
            f'{name}: test pipeline: Resize({_arguments(resize)}) cannot be exported: give a scale, bilinear'
        )
    return Preparation(
        scale=tuple(scale),
        keep_ratio=bool(resize.get('keep_ratio', False)),
        mean=preprocessor.mean.flatten().tolist(),
        std=preprocessor.std.flatten().tolist(),
        divisor=preprocessor.pad_size_divisor,
        to_bgr=not preprocessor._channel_conversion,
    )


def _arguments(step: dict[str, Any]) -> str:
    return ', '.join(f'{name}={value!r}' for name, value in step.items() if name != 'type')
