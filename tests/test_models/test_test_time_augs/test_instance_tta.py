"""Testing with several views of an image."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.tiny_run import run_tool
from helpers.repo import CONFIGS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmengine.structures import InstanceData

from mmpanoptic.datasets.shapes.writer import write_dataset
from mmpanoptic.engine.augmented_testing import use_tta
from mmpanoptic.models import InstanceTTAModel
from mmpanoptic.registry import MODELS
from mmpanoptic.utils import UserError

SHAPES = CONFIGS / 'panet' / 'panet_r18_fpn_shapes.py'
KINDS = ('masks', 'boxes', 'detectron')


def build(kind: str = 'masks', **options) -> InstanceTTAModel:
    """A PANet with random weights that predicts 6 instances an image, of ``kind``."""
    config = Config.fromfile(SHAPES)
    init_default_scope('mmpanoptic')
    config.model.backbone.init_cfg = None
    test_cfg = config.model.test_cfg
    test_cfg.rpn.max_per_img = 30
    test_cfg.rcnn.update(score_thr=0.0, max_per_img=6)
    if kind == 'boxes':
        for key in ('mask_head', 'mask_roi_extractor'):
            config.model.roi_head.pop(key)
    if kind == 'detectron':
        config.model.roi_head.type = 'DetectronRoIHead'
        config.model.roi_head.bbox_head.bbox_coder.type = 'DetectronBBoxCoder'
        test_cfg.rcnn.nms.offset = 1
    set_random_seed(0)
    model = MODELS.build(dict(type='InstanceTTAModel', module=config.model, **options)).eval()
    if kind != 'boxes':  # random masks would be of about half a box's pixels each
        torch.nn.init.normal_(model.module.roi_head.mask_head.conv_logits.weight, std=0.5)
    return model


def images(count: int = 1) -> list[torch.Tensor]:
    """Blurred noise of different sizes, uint8 (3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(64, 96), (80, 64)][:count]
    coarse = [torch.rand(1, 3, h // 8, w // 8, generator=generator) for h, w in sizes]
    return [torch.nn.functional.interpolate(x, scale_factor=8, mode='bilinear')[0].mul(255).byte() for x in coarse]


def view(batch: list[torch.Tensor], flip: bool = False, scale: int = 1) -> dict:
    """A batch as it is loaded; its originals are ``scale`` times smaller."""
    samples = []
    for image in batch:
        height, width = image.shape[-2:]
        meta = dict(ori_shape=(height // scale, width // scale), img_shape=(height, width))
        meta |= dict(scale_factor=(float(scale),) * 2, flip=flip, flip_direction='horizontal' if flip else None)
        samples.append(DetDataSample(metainfo=meta))
    return dict(inputs=[image.flip(-1) if flip else image for image in batch], data_samples=samples)


def collate(*views: dict) -> dict:
    return {key: [one[key] for one in views] for key in views[0]}


def predict(model: InstanceTTAModel, *views: dict) -> list[InstanceData]:
    return [sample.pred_instances for sample in model.test_step(collate(*views))]


@torch.no_grad()
def predict_plainly(model: InstanceTTAModel, one: dict) -> list[InstanceData]:
    return [sample.pred_instances for sample in model.module.test_step(one)]


def assert_same(results: list[InstanceData], expected: list[InstanceData]) -> None:
    assert len(results) == len(expected)
    for own, other in zip(results, expected, strict=True):
        assert len(own) == 6
        assert set(own.keys()) == set(other.keys())
        for key in own.keys():  # noqa: SIM118 (instances are no dict)
            assert torch.equal(own[key], other[key]), key


@pytest.mark.parametrize('count', [1, 2])
@pytest.mark.parametrize('kind', KINDS)
def test_one_view_without_voting_is_plain_testing(kind: str, count: int):
    model = build(kind, vote_iou_thr=None)
    one = view(images(count))
    results = predict(model, one)
    assert ('masks' in results[0]) == (kind != 'boxes')
    assert_same(results, predict_plainly(model, one))


@pytest.mark.parametrize('kind', KINDS)
def test_the_same_view_twice_changes_nothing(kind: str):
    """Their boxes suppress one another, and a mean of two equal masks is that mask."""
    model = build(kind, vote_iou_thr=None)
    one = view(images(2))
    assert_same(predict(model, one, one), predict_plainly(model, one))


@pytest.mark.parametrize('kind', KINDS)
def test_voting_changes_boxes_of_one_view(kind: str):
    """As in Detectron: boxes that NMS removed vote, those of the same view, too. Scores and labels stay."""
    (plain,) = predict(build(kind, vote_iou_thr=None), view(images()))
    (voted,) = predict(build(kind, vote_iou_thr=0.5), view(images()))
    assert torch.equal(voted.scores, plain.scores) and torch.equal(voted.labels, plain.labels)
    assert not torch.allclose(voted.bboxes, plain.bboxes, atol=0.1)


@pytest.mark.parametrize('kind', KINDS)
def test_a_mirrored_larger_view(kind: str):
    """Alone, it gives what plain testing says of it, mirrored back."""
    model = build(kind, vote_iou_thr=None)
    one = view(images(2), flip=True, scale=2)
    expected = predict_plainly(model, one)
    for own, mirrored, (height, width) in zip(predict(model, one), expected, [(32, 48), (40, 32)], strict=True):
        bboxes = mirrored.bboxes.clone()
        bboxes[:, [0, 2]] = width - bboxes[:, [2, 0]]
        torch.testing.assert_close(own.bboxes, bboxes, rtol=0, atol=1e-4)
        torch.testing.assert_close(own.scores, mirrored.scores)
        assert torch.equal(own.labels, mirrored.labels)
        if kind != 'boxes':
            assert own.masks.shape == (6, height, width)
            assert own.masks.any()
            # Detectron cuts grown boxes to whole pixels towards 0, which does not commute with mirroring.
            limit = 0.1 if kind == 'detectron' else 0.0
            assert (own.masks ^ mirrored.masks.flip(-1)).float().mean() <= limit


def test_boxes_of_all_views_are_pooled():
    model = build(vote_iou_thr=0.8)
    model.module.roi_head.test_cfg.max_per_img = 2

    def found(*rows: list[float]) -> list[InstanceData]:
        rows = torch.tensor(rows)
        return [InstanceData(bboxes=rows[:, :4], scores=rows[:, 4], labels=rows[:, 5].long())]

    by_view = [
        found([0, 0, 10, 10, 0.6, 1], [20, 0, 30, 10, 0.1, 1]),
        found([0, 0, 9, 10, 0.2, 1], [0, 0, 10, 10, 0.5, 2]),
    ]
    (merged,) = model.merge_boxes(by_view)
    assert merged.labels.tolist() == [1, 2]
    torch.testing.assert_close(merged.bboxes, torch.tensor([[0, 0, 9.75, 10], [0, 0, 10, 10]]))
    torch.testing.assert_close(merged.scores, torch.tensor([0.6, 0.5]))


@pytest.mark.parametrize('tight', [False, True])
def test_masks_are_averaged_and_boxes_become_tight(tight: bool, monkeypatch: pytest.MonkeyPatch):
    """Of two detections one is filled in its left half, one nowhere: there the views' mean is below the threshold."""
    model = build(tight_boxes=tight)
    bboxes = torch.tensor([[10.0, 10.0, 30.0, 50.0], [40.0, 10.0, 60.0, 50.0]])
    found = InstanceData(bboxes=bboxes, scores=torch.tensor([0.9, 0.8]), labels=torch.tensor([0, 1]))
    left = torch.cat([torch.ones(28, 14), torch.zeros(28, 14)], dim=1)
    probabilities = iter([torch.stack([0.9 * left, 0.9 * left]), torch.stack([0.4 * left, 0.05 * left])])
    monkeypatch.setattr(model, 'merge_boxes', lambda by_view: [found])
    monkeypatch.setattr(model, 'predict_masks', lambda view, results: [next(probabilities)])
    (result,) = predict(model, view(images()), view(images(), flip=True))
    first, second = result.masks
    expected = torch.zeros(64, 96, dtype=torch.bool)
    expected[10:50, 10:20] = True
    assert torch.equal(first, expected)
    assert not second.any()
    assert result.bboxes.tolist() == [[10, 10, 20 if tight else 30, 50], [40, 10, 60, 50]]


def test_masks_of_a_view_are_turned_back(monkeypatch: pytest.MonkeyPatch):
    """A head that fills the left half of every box fills the right one in a mirrored view."""
    model = build(vote_iou_thr=None)
    head = model.module.roi_head
    logits = torch.full((1, 7, 28, 28), -5.0)
    logits[..., :14] = 5.0
    rois = []

    def forward(features: tuple, its_rois: torch.Tensor) -> dict:
        rois.append(its_rois)
        return dict(mask_preds=logits.expand(len(its_rois), -1, -1, -1))

    monkeypatch.setattr(head, '_mask_forward', forward)
    found = [InstanceData(bboxes=torch.tensor([[2.0, 4.0, 12.0, 24.0]]), labels=torch.tensor([3]))]
    for flip in (False, True):
        data = view(images(), flip=flip, scale=2)  # of an image 48 wide
        frames = [dict(data['data_samples'][0].metainfo, scale_factor=(1.0, 1.0), flip=False)]
        one = model.extract_view(data, frames)
        ((mask,),) = model.predict_masks(one, found)
        assert (mask[:, :14] > 0.5).all() == (not flip)
        assert (mask[:, 14:] > 0.5).all() == flip
    assert torch.cat(rois).tolist() == [[0, 4, 8, 24, 48], [0, 72, 8, 92, 48]]


@pytest.mark.parametrize('kind', KINDS)
def test_nothing_found(kind: str):
    model = build(kind)
    model.module.roi_head.test_cfg.score_thr = 1.0
    for own, size in zip(
        predict(model, view(images(2)), view(images(2), flip=True)), [(64, 96), (80, 64)], strict=True
    ):
        assert own.bboxes.shape == (0, 4)
        assert own.scores.shape == own.labels.shape == (0,)
        if kind != 'boxes':
            assert own.masks.shape == (0, *size) and own.masks.dtype == torch.bool


def test_nothing_found_in_one_image_of_two(monkeypatch: pytest.MonkeyPatch):
    model = build()
    merge = model.merge_boxes

    def merge_boxes(by_view: list) -> list[InstanceData]:
        first, second = merge(by_view)
        return [first[:0], second]

    monkeypatch.setattr(model, 'merge_boxes', merge_boxes)
    first, second = predict(model, view(images(2)), view(images(2), flip=True))
    assert first.masks.shape == (0, 64, 96)
    assert second.masks.shape == (6, 80, 64)


def test_no_proposals(monkeypatch: pytest.MonkeyPatch):
    model = build()
    nothing = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0).long())
    monkeypatch.setattr(model.module.rpn_head, 'predict', lambda *args, **kwargs: [nothing])
    (result,) = predict(model, view(images()))
    assert len(result) == 0


def test_what_cannot_be_tested_so_is_refused():
    with pytest.raises(UserError, match='tight_boxes needs masks'):
        build('boxes', tight_boxes=True)
    config = Config.fromfile(SHAPES)
    config.model.roi_head.type = 'PointRendRoIHead'
    config.model.roi_head.point_head = dict(type='MaskPointHead', num_classes=7, in_channels=64)
    with pytest.raises(UserError, match='not MaskRCNN with PointRendRoIHead'):
        MODELS.build(dict(type='InstanceTTAModel', module=config.model))
    with pytest.raises(UserError, match='not Linear with no roi_head'):
        plain = torch.nn.Linear(1, 1)
        plain.test_step = None
        InstanceTTAModel(module=plain)


def test_views_of_coco():
    """Short sides of 600, 800, 1000 and 1200 pixels, unless the long one exceeded 1400; each also mirrored."""
    init_default_scope('mmpanoptic')
    steps = Config.fromfile(CONFIGS / '_base_/tta/voting_coco.py').tta_pipeline.views
    assert steps.transforms.pop('annotations')[0].type == 'LoadAnnotations'
    image = np.zeros((300, 400, 3), np.uint8)
    views = Compose([steps])(dict(img=image, img_shape=(300, 400), ori_shape=(300, 400), img_id=1))
    shapes = [tuple(x.shape[1:]) for x in views['inputs']]
    assert shapes[::2] == shapes[1::2] == [(600, 800), (800, 1067), (1000, 1333), (1050, 1400)]
    metas = [sample.metainfo for sample in views['data_samples']]
    assert [meta['flip'] for meta in metas] == [False, True] * 4
    assert {meta['flip_direction'] for meta in metas} == {None, 'horizontal'}
    assert all(meta['scale_factor'][0] == pytest.approx(meta['img_shape'][1] / 400) for meta in metas)


def test_option_of_the_tool():
    config = Config.fromfile(SHAPES)
    with pytest.raises(UserError, match='--tta: the config has no tta_model and no tta_pipeline; inherit them'):
        use_tta(config)
    base = Config.fromfile(CONFIGS / '_base_/tta/voting_coco.py')
    config.merge_from_dict(base.to_dict())
    use_tta(config)
    assert config.model.type == 'InstanceTTAModel' and config.model.module.type == 'MaskRCNN'
    assert config.test_dataloader.dataset.pipeline.views.type == 'TestTimeAug'
    assert config.val_dataloader.dataset.pipeline.resize.type == 'Resize'


TOOL_CONFIG = """
_base_ = {base!r}
data_root = {data!r}
val_dataloader = dict(dataset=dict(data_root=data_root), num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
test_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
model = dict(backbone=dict(init_cfg=None), test_cfg=dict(rcnn=dict(score_thr=0.0)))
tta_model = dict(type='InstanceTTAModel', vote_iou_thr=None)
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(288, 192), keep_ratio=True)],
            [dict(type='RandomFlip', prob=0.0)],
            [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)],
            [dict(type='PackDetInputs')],
        ],
    ),
]
"""


@pytest.mark.slow
def test_tool_with_one_view_scores_as_without(tmp_path: Path):
    write_dataset(tmp_path / 'shapes', {'train': 1, 'val': 2}, (96, 128), seed=0, workers=1)
    config = tmp_path / 'config.py'
    config.write_text(TOOL_CONFIG.format(base=str(SHAPES), data=f'{tmp_path}/shapes/'))
    init_default_scope('mmpanoptic')
    set_random_seed(0)
    torch.save(dict(state_dict=MODELS.build(Config.fromfile(config).model).state_dict()), tmp_path / 'weights.pth')

    def scores(*options: str) -> dict[str, float]:
        work_dir = tmp_path / f'work{len(options)}'
        done = run_tool('test.py', config, tmp_path / 'weights.pth', '--work-dir', work_dir, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        logged = json.loads(next(work_dir.glob('*/*.json')).read_text())
        return {key: value for key, value in logged.items() if key.startswith('coco/')}

    plain = scores()
    assert plain['coco/bbox_mAP'] >= 0
    assert scores('--tta', '--show-dir', 'pictures') == plain
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == 2
