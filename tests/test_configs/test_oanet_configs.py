"""What OANet's configs say, held against the paper; building them shows none of it."""

import pytest
import torch
from fixtures.config_tables import (
    CITYSCAPES_DATA,
    COCO_DATA,
    NUCLEI_DATA,
    PANOPTIC_INPUTS,
    R18_BACKBONE,
    R101_BACKBONE,
    SHAPES_DATA,
    backbone_channels,
    check,
    check_that_noticed,
    classes,
    expected,
    from_scratch,
    iterations,
    load,
    names_in,
    sgd,
    steps,
    views,
)
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from mmpanoptic.registry import MODELS

# ----------------------------------------------------------------------------------------------------------- the tables

COCO = 'oanet/oanet_r50_fpn_100k_coco'
R101 = 'oanet/oanet_r101_fpn_100k_coco'
CITYSCAPES = 'oanet/oanet_r50_fpn_cityscapes'
SHAPES = 'oanet/oanet_r18_fpn_shapes'
NUCLEI = 'oanet/oanet_r18_fpn_nuclei'
TABLES = 'oanet/ablations/'
BASELINE, R101_BASELINE = f'{TABLES}table3_r50-baseline', f'{TABLES}table3_r101-baseline'

HOOKS = [dict(type='PanopticCheckHook'), dict(type='SyncBuffersHook'), dict(type='RankingConflictHook')]
LAMBDA = 'model.semantic_head.loss_seg.loss_weight'
RANKING = 'model.panoptic_fusion_head.ranking'


def instances(train, val):
    """Where instances come from: masks that overlap, or (None) those cut from the panoptic PNGs."""
    return {'train_dataloader.dataset.inst_ann_file': train, 'val_dataloader.dataset.inst_ann_file': val}


# Section 3.1: the original Mask R-CNN's box losses.
SMOOTH_L1 = {
    'model.rpn_head.loss_bbox': dict(type='SmoothL1Loss', beta=1 / 9),
    'model.roi_head.bbox_head.loss_bbox': dict(type='SmoothL1Loss', beta=1.0),
}
# mmdet's, as in Panoptic FPN, which Shapes and nuclei are compared with.
L1 = {path: dict(type='L1Loss', beta=None) for path in SMOOTH_L1}
# Section 3.2 and equation 1 (lambda), section 3.3; thresholds that the paper lacks are those of the official script.
MODEL = {
    'model.type': 'OANet',
    'model.share': 'neck',
    'model.stuff_input': 'fpn',
    **SMOOTH_L1,
    'model.semantic_head': dict(
        type='OANetStuffHead',
        num_things_classes=80,
        num_stuff_classes=53,
        in_channels=256,
        inner_channels=128,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, avg_non_ignore=True, loss_weight=0.25),
    ),
    'model.panoptic_fusion_head': dict(
        type='RankingFusion',
        num_things_classes=80,
        num_stuff_classes=53,
        score_thr=0.5,
        overlap_thr=0.5,
        stuff_area_limit=4900,
        ranking=dict(type='SpatialRankingModule', kernel='1x7+7x1'),
    ),
    'model.test_cfg.rcnn.nms': dict(type='nms', iou_threshold=0.5, class_agnostic=False),
    'custom_hooks': HOOKS,
}
# The others leave these to the class.
DEFAULTS = {'model.share': None, 'model.stuff_input': None}
BY_SCORE = {
    'model.panoptic_fusion_head': dict(
        _delete_=True,
        type='HeuristicFusion',
        num_things_classes=80,
        num_stuff_classes=53,
        score_thr=0.5,
        overlap_thr=0.5,
        stuff_area_limit=4900,
    ),
}
# Every size of the small Mask R-CNN and of its stuff branch.
SMALL = {
    **R18_BACKBONE,
    'model.neck.out_channels': 64,
    'model.rpn_head': dict(in_channels=64, feat_channels=64),
    'model.roi_head.bbox_roi_extractor': dict(out_channels=64, roi_layer=dict(sampling_ratio=2)),
    'model.roi_head.mask_roi_extractor': dict(out_channels=64, roi_layer=dict(sampling_ratio=2)),
    'model.roi_head.bbox_head': dict(in_channels=64, fc_out_channels=256),
    'model.roi_head.mask_head': dict(num_convs=2, in_channels=64, conv_out_channels=64),
    'model.semantic_head': dict(in_channels=64, inner_channels=32, norm_cfg=dict(num_groups=8)),
    'model.train_cfg.rpn_proposal': dict(nms_pre=500, max_per_img=200),
    'model.test_cfg.rpn': dict(nms_pre=500, max_per_img=200),
    'model.train_cfg.rcnn.sampler.num': 64,
}
ROWS = {
    # .02, warmed up from .002 over 2000 iterations, dropped at 60k and 80k of 100k; 16 images a batch.
    COCO: (
        'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
        PANOPTIC_INPUTS,
        MODEL,
        *COCO_DATA,
        {'train_dataloader.dataset.filter_cfg.filter_empty_gt': False},
        instances('annotations/instances_train2017.json', 'annotations/instances_val2017.json'),
        iterations(100000, 10000),
        steps(100000, [60000, 80000], warm_up=2000, start_factor=0.1),
        sgd(0.02, batch=16),
    ),
    R101: (COCO, R101_BACKBONE),
    # Not in the paper. Panoptic FPN's schedule, of 32 crops a batch.
    CITYSCAPES: (
        COCO,
        DEFAULTS,
        classes(8, 11, area=2048),
        *CITYSCAPES_DATA,
        instances('gtFine/cityscapes_polygons_train.json', None),
        iterations(65000, 5000),
        steps(65000, [40000, 55000], warm_up=1000),
        sgd(0.01, batch=32),
        {'train_dataloader.batch_size': 4},
    ),
    # Lambda is Panoptic FPN's there and on the nuclei, as the README says.
    SHAPES: (
        COCO,
        DEFAULTS,
        L1,
        SMALL,
        backbone_channels(32, first=32),
        classes(7, 6, area=256),
        *SHAPES_DATA,
        instances('annotations/instances_train.json', 'annotations/instances_val.json'),
        *from_scratch(8, lr=1e-3),
        views((288, 192), (312, 208), (264, 176)),
        {
            LAMBDA: 0.5,
            'train_dataloader.dataset.filter_cfg.filter_empty_gt': True,
            'train_dataloader.sampler.type': 'DefaultSampler',
            'default_hooks.checkpoint': dict(by_epoch=None, interval=1),
            'log_processor.by_epoch': True,
            'optim_wrapper.paramwise_cfg': dict(custom_keys={'panoptic_fusion_head.ranking': dict(lr_mult=10.0)}),
        },
    ),
    # One thing class: nothing to rank.
    NUCLEI: (
        SHAPES,
        BY_SCORE,
        backbone_channels(None, first=64),
        classes(1, 1, area=64),
        *NUCLEI_DATA,
        instances(None, None),
        *from_scratch(16, lr=1e-3),
        {
            'model.rpn_head.anchor_generator.scales': [4],
            'model.train_cfg.rpn_proposal': dict(nms_pre=1000, max_per_img=500),
            'model.test_cfg.rpn': dict(nms_pre=1000, max_per_img=500),
            'model.train_cfg.rcnn.sampler.num': 128,
        },
    ),
    # Table 1: no ranking; .25 is the baseline.
    BASELINE: (COCO, BY_SCORE),
    f'{TABLES}table1_lambda-020': (BASELINE, {LAMBDA: 0.2}),
    f'{TABLES}table1_lambda-033': (BASELINE, {LAMBDA: 0.33}),
    f'{TABLES}table1_lambda-050': (BASELINE, {LAMBDA: 0.5}),
    f'{TABLES}table1_lambda-075': (BASELINE, {LAMBDA: 0.75}),
    f'{TABLES}table1_lambda-100': (BASELINE, {LAMBDA: 1.0}),
    f'{TABLES}table2_stuff-only': (BASELINE, {'model.semantic_head.seg_classes': 'stuff'}),
    # Table 3: instances from the panoptic PNGs were trained as two networks.
    f'{TABLES}table3_r50-panoptic-instances': (BASELINE, {'model.share': 'none'}, instances(None, None)),
    R101_BASELINE: (R101, BY_SCORE),
    f'{TABLES}table4_r50-share-none': (BASELINE, {'model.share': 'none'}),
    f'{TABLES}table4_r50-share-backbone': (BASELINE, {'model.share': 'backbone'}),
    f'{TABLES}table4_r101-share-none': (R101_BASELINE, {'model.share': 'none'}),
    f'{TABLES}table5_1x1': (COCO, {f'{RANKING}.kernel': '1x1'}),
    f'{TABLES}table5_3x3': (COCO, {f'{RANKING}.kernel': '3x3'}),
    # No rows of the paper.
    f'{TABLES}dual-kernel': (COCO, {f'{RANKING}.dual': True}),
    f'{TABLES}shapes_1x1': (SHAPES, {f'{RANKING}.kernel': '1x1'}),
    f'{TABLES}shapes_3x3': (SHAPES, {f'{RANKING}.kernel': '3x3'}),
}


@pytest.mark.parametrize('name', names_in('oanet'))
def test_settings(name):
    check(name, ROWS)


def test_every_row_has_a_config():
    assert set(ROWS) == set(names_in('oanet'))


@pytest.mark.parametrize(
    ('path', 'value'),
    [
        (LAMBDA, 0.3),
        ('model.rpn_head.loss_bbox.beta', 1.0),
        ('model.roi_head.bbox_head.loss_bbox.type', 'L1Loss'),
        (f'{RANKING}.kernel', '3x3'),
        ('model.test_cfg.rcnn.nms.class_agnostic', True),
        ('model.rpn_head.anchor_generator.scales', [4]),
        ('param_scheduler.1.milestones', [60000, 90000]),
        ('train_dataloader.dataset.inst_ann_file', None),
        ('train_dataloader.dataset.filter_cfg.filter_empty_gt', True),
        ('val_dataloader.dataset.pipeline.resize.scale', (1333, 600)),
        ('model.panoptic_fusion_head.stride', 4),
    ],
)
def test_another_value_is_noticed(path, value):
    check_that_noticed(COCO, ROWS, path, value)


def test_a_config_without_a_row_is_noticed():
    with pytest.raises(AssertionError, match='without a row'):
        expected(f'{COCO}_2', ROWS)


# --------------------------------------------------------------------------------------------------------- built models


def on_meta(name):
    """A model without storage."""
    config = load(name)
    init_default_scope(config.default_scope)
    with torch.device('meta'):
        return MODELS.build(config.model)


@pytest.mark.parametrize('name', [COCO, CITYSCAPES, SHAPES])
def test_what_configs_leave_to_the_classes(name):
    """Defaults that are choices in reading the paper: section 3.1, 3.2, and equation 3."""
    model = on_meta(name)
    assert (model.stuff_input, model.stuff_neck, model.stuff_backbone) == ('fpn', None, None)
    stuff, fusion = model.semantic_head, model.panoptic_fusion_head
    assert stuff.num_classes == stuff.num_things_classes + stuff.num_stuff_classes
    assert (len(stuff.level_convs), stuff.full_size_loss, len(fusion.ranking.branches)) == (4, False, 1)
    choices = dict(
        train_input='gt', conflict='class', score_region='mask', stride=1, loss_weight=1.0, stuff_area_mode='segment'
    )
    assert {key: getattr(fusion, key) for key in choices} == choices


R50, R101_MORE, FPN, LARGE_KERNEL = 46_864_853, 18_992_128, 3_344_384, 89_760
BACKBONE = 23_508_032
PARAMETERS = {
    COCO: R50,
    R101: R50 + R101_MORE,
    BASELINE: R50 - LARGE_KERNEL,
    f'{TABLES}table2_stuff-only': R50 - LARGE_KERNEL - 80 * (128 + 1),
    f'{TABLES}table4_r50-share-backbone': R50 - LARGE_KERNEL + FPN,
    f'{TABLES}table4_r50-share-none': R50 - LARGE_KERNEL + FPN + BACKBONE,
    f'{TABLES}table4_r101-share-none': R50 - LARGE_KERNEL + FPN + BACKBONE + 2 * R101_MORE,
    f'{TABLES}table5_1x1': R50 - LARGE_KERNEL + 6_480,
    f'{TABLES}table5_3x3': R50 - LARGE_KERNEL + 57_680,
    f'{TABLES}dual-kernel': R50 + LARGE_KERNEL,
}


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameters(name):
    assert sum(p.numel() for p in on_meta(name).parameters()) == PARAMETERS[name]


def test_operations_at_800_by_1344():
    """Of the whole network, with 1000 proposals and masks for 100 boxes, in 10^9 multiply-adds."""
    model = on_meta(COCO)

    def giga(part, *shapes):
        inputs = [torch.zeros(shape, device='meta') for shape in shapes]
        with FlopCounterMode(display=False) as counter:
            part(*inputs)
        return counter.get_total_flops() / 2e9

    maps = [(1, 256, 800 // stride, 1344 // stride) for stride in (4, 8, 16, 32)]
    roi_head = model.roi_head
    counts = dict(
        backbone_and_fpn=giga(model.extract_feat, (1, 3, 800, 1344)),
        rpn=giga(lambda *levels: model.rpn_head(levels), *maps, (1, 256, 13, 21)),
        box=giga(roi_head.bbox_head, (1000, 256, 7, 7)),
        mask=giga(roi_head.mask_head, (100, 256, 14, 14)),
        stuff=giga(lambda *levels: model.semantic_head(levels), *maps),
        ranking=giga(model.panoptic_fusion_head.ranking, (1, 80, 800, 1344)),
    )
    stated = dict(backbone_and_fpn=87.6 + 60.9, rpn=53.1, box=14.3, mask=53.0, stuff=80.3, ranking=96.3)
    assert counts == pytest.approx(stated, abs=0.06)
    assert sum(counts.values()) == pytest.approx(445.5, abs=0.06)
