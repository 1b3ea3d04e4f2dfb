"""What PANet's configs say, held against the paper and the released code; building them shows none of it."""

import pytest
from cityscapesscripts.helpers.labels import labels
from fixtures.config_tables import flat
from helpers.models import on_meta
from helpers.repo import CONFIGS
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmpanoptic.registry import MODELS

FOLDER = CONFIGS / 'panet'
CITYSCAPES_THINGS = tuple(label.name for label in labels if label.hasInstances and not label.ignoreInEval)


def load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


def changed(name, base):
    """Paths at which two configs differ."""
    ours, theirs = (flat(load(n)._cfg_dict.to_dict()) for n in (name, base))
    return {key.lstrip('.') for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}


@pytest.mark.parametrize(
    ('name', 'iterations', 'milestones'),
    [
        ('panet_r50_fpn_syncbn_160k_coco', 160000, [120000]),
        ('panet_r50_fpn_syncbn_ms-160k_coco', 160000, [120000]),
        ('panet-det_r50_fpn_syncbn_ms-80k_coco', 80000, [60000]),
        ('panet_r50-caffe_fpn_gn_180k_coco', 180000, [120000, 160000]),
        ('panet-det-2fc_r50-caffe_fpn_gn_90k_coco', 90000, [60000, 80000]),
        ('panet_r50_fpn_syncbn_24k_cityscapes', 24000, [18000]),
        ('panet_r50_fpn_syncbn_4k_cityscapes_coco-init', 4000, [3000]),
        ('panet_r50_fpn_syncbn_80k_mapillary', 80000, [60000]),
    ],
)
def test_schedule(name, iterations, milestones):
    config = load(name)
    warm_up, steps = config.param_scheduler
    assert config.train_cfg.max_iters == steps.end == iterations
    assert steps.milestones == milestones
    assert (warm_up.end, warm_up.start_factor) == (500, pytest.approx(1 / 3))
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
    assert optimizer.lr == (0.01 if 'cityscapes' in name else 0.02)


def test_families():
    syncbn, gn = (load(n).model for n in ('panet_r50_fpn_syncbn_160k_coco', 'panet_r50-caffe_fpn_gn_180k_coco'))
    assert (syncbn.backbone.frozen_stages, syncbn.backbone.norm_eval) == (-1, False)
    assert (gn.backbone.frozen_stages, gn.backbone.norm_eval) == (1, True)
    assert (syncbn.neck.norm_cfg.type, gn.neck.norm_cfg.type) == ('SyncBN', 'GN')
    assert (syncbn.roi_head.mask_head.fc_relu, gn.roi_head.mask_head.fc_relu) == (False, True)
    assert gn.neck.bottom_up_bias is True
    assert gn.data_preprocessor.bgr_to_rgb is False
    for model in (syncbn, gn):
        assert model.roi_head.bbox_head.loss_bbox.beta == pytest.approx(1 / 3)
        assert model.rpn_head.loss_bbox.beta == pytest.approx(1 / 9)
        assert model.roi_head.bbox_roi_extractor.roi_layer.sampling_ratio == 2
        assert model.train_cfg.rpn_proposal.max_per_img == 2000


def test_cityscapes_from_coco():
    """Section 4.3: the classes of the same meaning, of which one has another name; all else is Cityscapes'."""
    name, base = 'panet_r50_fpn_syncbn_4k_cityscapes_coco-init', 'panet_r50_fpn_syncbn_24k_cityscapes'
    mapping = load(name).default_hooks.transfer.mapping
    coco, things = CocoDataset.METAINFO['classes'], CITYSCAPES_THINGS
    sources = [mapping.get(thing, thing) for thing in things]
    assert sources == ['person', 'person', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle']
    assert set(sources) <= set(coco) and set(mapping) <= set(things)
    schedule = ('train_cfg', 'param_scheduler', 'default_hooks.checkpoint', 'default_hooks.transfer', 'load_from')
    assert all(path.startswith(schedule) for path in changed(name, base))
    assert load(name).auto_scale_lr.base_batch_size == 8


def test_limits_follow_mapillary():
    """More than 100 things an image, and no limit in its own evaluation."""
    for name in ('panet_r50_fpn_syncbn_80k_mapillary', 'panet_r50_fpn_syncbn_80k_mapillary_tta'):
        config = load(name)
        limit = config.model.test_cfg.rcnn.max_per_img
        assert 100 < limit <= min(config.test_evaluator.proposal_nums)
        assert limit <= config.model.test_cfg.rpn.max_per_img


# What gives results, and what Mask R-CNN has too: section 4.2 puts the norm after all new layers.
WITHOUT_NORM = ('fc_cls', 'fc_reg', 'conv_logits', 'mask_fc', 'upsample')


@pytest.mark.parametrize(
    'name',
    [
        'ablations/table3_mst-mbn',
        'ablations/table3_mst-mbn_det',
        'ablations/table3_mst-mbn-bpa-afp-ff',
        'panet_r50_fpn_syncbn_ms-160k_coco',
        'panet-det_r50_fpn_syncbn_ms-80k_coco',
        'panet_r50_fpn_syncbn_24k_cityscapes',
        'panet_r50_fpn_syncbn_80k_mapillary',
    ],
)
def test_a_norm_follows_every_layer_of_neck_and_heads(name):
    """In the SyncBN family; the released models have none behind the heavier head's fully-connected layer."""
    assert layers_without_norm(name) <= set(WITHOUT_NORM)


def test_layers_without_norm_as_released():
    assert layers_without_norm('panet_r50-caffe_fpn_gn_180k_coco') == {'shared_fcs.0.fc', *WITHOUT_NORM}
    assert layers_without_norm('panet-det-2fc_r50-caffe_fpn_gn_90k_coco') == {'fc_cls', 'fc_reg'}


def layers_without_norm(name):
    """Convolutions and fully-connected layers of neck and heads that no norm follows, by their names in there."""
    config = load(name)
    init_default_scope(config.default_scope)
    model = on_meta(MODELS.build, config.model)
    parts = [model.neck, model.roi_head.bbox_head, model.roi_head.mask_head if model.with_mask else nn.Identity()]
    found = set()
    for part in parts:
        modules = dict(part.named_modules())
        for path, module in modules.items():
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)):
                block = modules[path.rpartition('.')[0]]
                if getattr(block, 'norm_name', None) is None and not getattr(block, 'with_norm', False):
                    found.add(path)
    return found


HEAD = 'model.roi_head.bbox_head'
MASK = 'model.roi_head.mask_head'


@pytest.mark.parametrize(
    ('name', 'base', 'keys'),
    [
        ('ablations/table5_conv2', 'ablations/table3_mst-mbn-bpa-afp-ff', {f'{MASK}.fc_from'}),
        ('ablations/table5_conv4', 'ablations/table3_mst-mbn-bpa-afp-ff', {f'{MASK}.fc_from'}),
        ('ablations/table5_product', 'ablations/table3_mst-mbn-bpa-afp-ff', {f'{MASK}.fc_fusion'}),
        ('ablations/table5_max', 'ablations/table3_mst-mbn-bpa-afp-ff', {f'{MASK}.fc_fusion'}),
        ('ablations/table4_sum', 'ablations/table3_mst-mbn-afp', {f'{HEAD}.fuse', f'{MASK}.fuse'}),
        ('ablations/table4_sum_det', 'ablations/table3_mst-mbn-afp_det', {f'{HEAD}.fuse'}),
        ('ablations/table4_fu-fc1fc2', 'ablations/table3_mst-mbn-afp', {f'{HEAD}.fuse_stage', f'{MASK}.fuse_stage'}),
    ],
)
def test_ablation_changes_only_its_row(name, base, keys):
    assert changed(name, base) == keys
