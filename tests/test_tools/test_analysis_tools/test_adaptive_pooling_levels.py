"""The tool that says which levels max-pooled features come from."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.repo import load_tool, run_main
from mmengine.config import Config

from mmpanoptic.apis import load_model
from mmpanoptic.utils import UserError

TOOL = load_tool('analysis_tools/adaptive_pooling_levels')

CONFIG = """
levels = dict(type='AllLevelRoIExtractor', out_channels=8, featmap_strides=[4, 8, 16, 32])
nms = dict(type='nms', iou_threshold=1.0)
proposals = dict(nms_pre=40, max_per_img=20, nms=nms, min_bbox_size=0)
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18),
    neck=dict(type='PAFPN', in_channels=[64, 128, 256, 512], out_channels=8, num_outs=5),
    rpn_head=dict(
        type='RPNHead',
        in_channels=8,
        feat_channels=8,
        anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[1], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder')),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(roi_layer=dict(type='RoIAlign', output_size=7), **levels),
        bbox_head=dict(type='AdaptivePoolingBBoxHead', in_channels=8, fc_out_channels=16, num_classes=2),
        mask_roi_extractor=dict(roi_layer=dict(type='RoIAlign', output_size=14), **levels),
        mask_head=dict(type='FCFusionMaskHead', in_channels=8, conv_out_channels=8, num_classes=2)),
    train_cfg=None,
    test_cfg=dict(rpn=proposals, rcnn=dict(score_thr=0.0, nms=nms, max_per_img=5, mask_thr_binary=0.5)))
del levels, nms, proposals
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('ori_shape', 'img_shape', 'scale_factor'))]
test_dataloader = dict(
    dataset=dict(
        type='CocoDataset',
        data_root=ROOT,
        data_prefix=dict(img=''),
        ann_file='images.json',
        test_mode=True,
        pipeline=test_pipeline))
"""


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Config of a model for three random images, and a checkpoint in which level 3 outdoes the others."""
    root = tmp_path_factory.mktemp('panet')
    rng = np.random.default_rng(0)
    names = [f'{i}.png' for i in range(3)]
    for name in names:
        cv2.imwrite(str(root / name), rng.integers(0, 256, (64, 96, 3), np.uint8))
    images = [dict(id=i, file_name=name, width=96, height=64) for i, name in enumerate(names)]
    (root / 'images.json').write_text(json.dumps(dict(images=images, annotations=[], categories=[])))
    config = root / 'panet.py'
    config.write_text(CONFIG.replace('ROOT', repr(str(root))))
    torch.manual_seed(0)
    model, _ = load_model(Config.fromfile(config), device='cpu')
    model.init_weights()
    with torch.no_grad():
        for pooling in (model.roi_head.bbox_head.pooling, model.roi_head.mask_head.convs[0]):
            list(pooling.layers[2].parameters())[1].fill_(1000.0)  # the bias
    checkpoint = root / 'panet.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return str(config), str(checkpoint)


@pytest.mark.parametrize(('head', 'num_rois'), [('bbox', 40), ('mask', 10)])
def test_table_and_plot(files, head, num_rois, monkeypatch, capsys, tmp_path: Path):
    plot = tmp_path / 'plot.png'
    run_main(TOOL, monkeypatch, *files, '--num-images', '2', '--head', head, '--finest-scale', '16', '--out', str(plot))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('│')]
    rows = [[cell.strip() for cell in line.split('│')[1:-1]] for line in lines]
    assert [row[0] for row in rows] == [f'level {i}' for i in (1, 2, 3, 4)]
    assert sum(int(row[-1]) for row in rows) == num_rois
    assert all(row[1:-1] == (['-'] * 4 if row[-1] == '0' else ['0.0', '0.0', '100.0', '0.0']) for row in rows)
    assert head == 'mask' or sum(row[-1] != '0' for row in rows) > 1
    assert cv2.imread(str(plot)).std() > 0


def test_refusals(files, monkeypatch, tmp_path: Path):
    for args, message in (
        (('--num-images', '0'), 'at least one is needed'),
        (('--cfg-options', 'model.roi_head.bbox_head.fuse=sum'), 'no bbox head that takes the maximum over levels'),
        (('--num-images', '1', '--out', '/proc/nowhere/plot.png'), '--out: /proc/nowhere cannot be made'),
        (
            ('--num-images', '1', '--out', str(tmp_path / 'plot.doc')),
            r'plot\.doc: the name must end in one of .*\.png, ',
        ),
    ):
        with pytest.raises(UserError, match=message):
            run_main(TOOL, monkeypatch, *files, *args)
