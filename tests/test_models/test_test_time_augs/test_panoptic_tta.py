"""Panoptic maps from several views: one view is plain testing, several are merged as worked out by hand."""

import re
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fixtures.tiny_run import run_tool
from helpers.repo import CONFIGS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmengine.structures import InstanceData

from mmpanoptic.datasets.shapes.writer import write_dataset
from mmpanoptic.engine.augmented_testing import use_tta
from mmpanoptic.models import PanopticTTAModel
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import StuffLabels
from mmpanoptic.utils import UserError

SIZES = (50, 66), (70, 46)
NETWORK_SIZES = (64, 84), (96, 63)  # scaled by no power of two, and by different factors in height and width
SYSTEMS = {
    'panoptic_fpn': ('panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py', {}),
    'panet': ('combined/panoptic-fpn_panet_r18_fpn_ranking_shapes.py', {}),
    'oanet': ('oanet/oanet_r18_fpn_shapes.py', {}),
    'oanet-rpn': ('oanet/oanet_r18_fpn_shapes.py', dict(stuff_input='rpn_conv')),
    'oanet-backbone': ('oanet/oanet_r18_fpn_shapes.py', dict(share='backbone')),
    'oanet-none': ('oanet/oanet_r18_fpn_shapes.py', dict(share='none')),
    'spatialflow': ('spatialflow/spatialflow_r18_fpn_shapes.py', {}),
    'spatialflow-logits': ('spatialflow/spatialflow_r18_fpn_shapes.py', dict(semantic_head=dict(resize='logits'))),
    'spatialflow-ranking': ('combined/spatialflow_r18_fpn_ranking_shapes.py', {}),
}


def build(system: str = 'panoptic_fpn') -> PanopticTTAModel:
    """A model with random weights that predicts 8 instances an image and uses them all."""
    path, changes = SYSTEMS[system]
    config = Config.fromfile(CONFIGS / path)
    init_default_scope('mmpanoptic')
    config.merge_from_dict(dict(model=changes))
    config.model.panoptic_fusion_head.update(score_thr=0.0, overlap_thr=0.9, stuff_area_limit=20)
    test_cfg = config.model.test_cfg
    if 'rcnn' in test_cfg:
        test_cfg.rpn.max_per_img = 30
        test_cfg.rcnn.update(score_thr=0.0, max_per_img=8)
    else:
        test_cfg.update(score_thr=0.0, nms_pre=100, max_per_img=8)
    set_random_seed(0)
    tta = MODELS.build(dict(type='PanopticTTAModel', module=config.model)).eval()
    model = tta.module
    for layer, std in [
        (getattr(model, 'roi_head', model).mask_head.conv_logits, 0.5),
        (model.semantic_head.conv_logits, 1.0),
    ]:
        torch.nn.init.normal_(layer.weight, std=std)
    if system.startswith('spatialflow'):
        torch.nn.init.normal_(model.bbox_head.retina_cls.weight, std=0.1)
        torch.nn.init.normal_(model.bbox_head.retina_reg.weight, std=0.1)
    return tta


@pytest.fixture(scope='module', params=SYSTEMS)
def model(request: pytest.FixtureRequest) -> PanopticTTAModel:
    return build(request.param)


@pytest.fixture(scope='module')
def fpn() -> PanopticTTAModel:
    return build()


def view(count: int = 1, flip: bool = False, scale: float = 1.0, direction: str = 'horizontal') -> dict:
    """A batch of blurred noise of different sizes, as it is loaded."""
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for ori_shape, size in zip(SIZES[:count], NETWORK_SIZES, strict=False):
        coarse = torch.rand(1, 3, 8, 8, generator=generator)
        size = tuple(round(side * scale) for side in size)
        image = F.interpolate(coarse, size, mode='bilinear')[0].mul(255).byte()
        factors = size[1] / ori_shape[1], size[0] / ori_shape[0]
        meta = dict(ori_shape=ori_shape, img_shape=size, scale_factor=factors, flip=flip)
        samples.append(DetDataSample(metainfo=dict(meta, flip_direction=direction if flip else None)))
        dims = dict(horizontal=(-1,), vertical=(-2,))[direction]
        inputs.append(image.flip(dims) if flip else image)
    return dict(inputs=inputs, data_samples=samples)


def predict(model: PanopticTTAModel, *views: dict) -> list[DetDataSample]:
    return model.test_step({key: [one[key] for one in views] for key in views[0]})


@torch.no_grad()
def predict_plainly(model: PanopticTTAModel, one: dict) -> list[DetDataSample]:
    return model.module.test_step(one)


def assert_same(results: list[DetDataSample], expected: list[DetDataSample]) -> None:
    assert len(results) == len(expected)
    for own, other in zip(results, expected, strict=True):
        assert own.pred_panoptic_seg.segments_info == other.pred_panoptic_seg.segments_info
        assert torch.equal(own.pred_panoptic_seg.sem_seg, other.pred_panoptic_seg.sem_seg)
        instances, others = own.pred_instances, other.pred_instances
        assert set(instances.keys()) == set(others.keys()) == {'bboxes', 'scores', 'labels', 'masks'}
        for key in instances.keys():  # noqa: SIM118 (instances are no dict)
            assert torch.equal(instances[key], others[key]), key


def test_one_view_is_plain_testing(model: PanopticTTAModel):
    """To the last bit, also where nothing is found, and in a batch of images of different sizes."""
    expected = predict_plainly(model, view(2))
    assert all(len(own.pred_instances) == 8 and own.pred_instances.masks.any() for own in expected)
    kinds = [segment['instance'] is None for own in expected for segment in own.pred_panoptic_seg.segments_info]
    assert True in kinds and False in kinds
    assert_same(predict(model, view(2)), expected)


def test_boxes_of_a_view_are_not_suppressed_before_those_of_all_are_together():
    tta = build('spatialflow')
    data = {key: [one] for key, one in view().items()}
    found, _ = tta.extract_both(view(), tta.common_frames(data))
    (boxes,) = tta.predict_boxes(found)
    assert len(boxes) > 8  # max_per_img
    for label in boxes.labels.unique():
        same = boxes[boxes.labels == label].bboxes
        if (bbox_overlaps(same, same).fill_diagonal_(0) > 0.4).any():
            break
    else:
        pytest.fail('no boxes of one class overlap by more than suppression allows')


def test_nothing_found_is_plain_testing(model: PanopticTTAModel, monkeypatch: pytest.MonkeyPatch):
    roi_head = getattr(model.module, 'roi_head', None)
    cfgs = [roi_head.test_cfg] if roi_head else [model.module.bbox_head.test_cfg, model.module.test_cfg]
    for cfg in cfgs:
        monkeypatch.setitem(cfg, 'score_thr', 1.0)
    expected = predict_plainly(model, view())
    assert not len(expected[0].pred_instances) and expected[0].pred_panoptic_seg.segments_info
    assert_same(predict(model, view()), expected)
    several = predict(model, view(), view(flip=True))[0]
    assert several.pred_instances.masks.shape == (0, *SIZES[0])
    assert several.pred_panoptic_seg.sem_seg.shape == (1, *SIZES[0])


def use_logits(model: PanopticTTAModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let plain testing, too, resize logits."""
    if hasattr(model.module.semantic_head, 'resize'):
        monkeypatch.setattr(model.module.semantic_head, 'resize', 'logits')


def test_the_same_view_twice_changes_nothing(model: PanopticTTAModel, monkeypatch: pytest.MonkeyPatch):
    """Boxes suppress their likes, means of equals are the same; labels cannot be averaged, their logits are."""
    results = predict(model, view(2), view(2))
    use_logits(model, monkeypatch)
    assert_same(results, predict_plainly(model, view(2)))


@torch.no_grad()
def logits_by_hand(model: PanopticTTAModel, one: dict) -> torch.Tensor:
    """Those of a batch of one, cropped to its image, at the original size, turned back."""
    data = model.module.data_preprocessor(one, False)
    meta = data['data_samples'][0].metainfo
    head = model.module.semantic_head
    logits = head(model.module.extract_feats(data['inputs'])[1])['seg_preds']
    corners = getattr(head, 'align_corners', False)
    logits = F.interpolate(logits, meta['batch_input_shape'], mode='bilinear', align_corners=corners)
    height, width = meta['img_shape']
    logits = F.interpolate(logits[..., :height, :width], meta['ori_shape'], mode='bilinear', align_corners=corners)[0]
    return logits.flip(-1) if meta['flip'] else logits


@pytest.mark.parametrize('system', ['panoptic_fpn', 'spatialflow'])
def test_logits_are_averaged_and_fused_once(system: str, monkeypatch: pytest.MonkeyPatch):
    model = build(system)
    fuse, calls = model.module.panoptic_fusion_head.predict, []
    monkeypatch.setattr(model.module.panoptic_fusion_head, 'predict', lambda *a: calls.append(a) or fuse(*a))
    views = [dict(), dict(flip=True), dict(flip=True, scale=1.5)]
    (result,) = predict(model, *[view(**one) for one in views])
    (((evidence,),),) = calls
    expected = sum(logits_by_hand(model, view(**one)) for one in views) / 3
    torch.testing.assert_close(evidence.stuff.logits, expected)
    assert result.pred_instances is evidence.instances and len(evidence.instances) == 8
    assert evidence.input_size == NETWORK_SIZES[0], 'a learned order works at the size of the first view'
    assert evidence.output_size == SIZES[0]


def test_boxes_and_masks_of_two_views(fpn: PanopticTTAModel, monkeypatch: pytest.MonkeyPatch):
    """The object on the left is found twice, better in the mirrored larger view; one on the right in one view alone.

    Masks: in the first view left halves are .9 and .9, in the mirrored one right halves .4 and .05; the means of the
    left halves are .65 and .475, of which only the first is above the threshold.
    """
    height, width = SIZES[0]
    first, second = view(scale=1), view(flip=True, scale=2)
    (sx, sy), (tx, ty) = (one['data_samples'][0].scale_factor for one in (first, second))
    found = [
        [([0, 10, 20, 40], 0.6, 1), ([30, 10, 50, 40], 0.7, 2)],
        [([width - 20, 10, width, 40], 0.8, 1)],
    ]
    scales = [torch.tensor([sx, sy, sx, sy]), torch.tensor([tx, ty, tx, ty])]

    def candidates(features: tuple, samples: list) -> list[InstanceData]:
        index = int(samples[0].flip)
        boxes, scores, labels = zip(*found[index], strict=True)
        bboxes = torch.tensor(boxes) * scales[index]
        return [InstanceData(bboxes=bboxes, scores=torch.tensor(scores), labels=torch.tensor(labels))]

    rois = []
    left = torch.zeros(28, 28)
    left[:, :14] = 1

    def mask_logits(features: tuple, boxes: list[torch.Tensor]) -> torch.Tensor:
        rois.append(boxes[0])
        probabilities = [0.4 * left.flip(-1), 0.05 * left.flip(-1)] if len(rois) == 2 else [0.9 * left, 0.9 * left]
        return torch.stack(probabilities).logit(1e-6)[:, None].expand(-1, 7, -1, -1)

    monkeypatch.setattr(fpn.stages, 'candidates', candidates)
    monkeypatch.setattr(fpn.stages, 'mask_logits', mask_logits)
    (result,) = predict(fpn, first, second)
    instances = result.pred_instances
    assert instances.scores.tolist() == pytest.approx([0.8, 0.7]) and instances.labels.tolist() == [1, 2]
    expected = torch.tensor([[0.0, 10, 20, 40], [30, 10, 50, 40]])
    torch.testing.assert_close(instances.bboxes, expected)
    torch.testing.assert_close(rois[0], expected * scales[0])
    mirrored = torch.tensor([[width - 20.0, 10, width, 40], [width - 50, 10, width - 30, 40]])
    torch.testing.assert_close(rois[1], mirrored * scales[1])
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[10:40, :10] = True
    assert torch.equal(instances.masks[0], mask)
    assert not instances.masks[1].any()
    assert ((result.pred_panoptic_seg.sem_seg[0] == 1 + 1000) == mask).all()


def test_vertical_flips(fpn: PanopticTTAModel):
    (result,) = predict(fpn, view(flip=True, direction='vertical'))
    (mirrored,) = predict_plainly(fpn, view(flip=True, direction='vertical'))
    stuff, expected = (one.pred_panoptic_seg.sem_seg[0] for one in (result, mirrored))
    assert ((stuff == expected.flip(0)) | (stuff >= 1000) | (expected.flip(0) >= 1000)).all()
    assert (stuff < 13).any()


def test_what_masks_do_not_need_is_let_go(monkeypatch: pytest.MonkeyPatch):
    """While a view is computed, neither logits nor features of stuff of those before it are in memory."""
    model = build('spatialflow')
    extract, seen = model.module.extract_feats, []

    def extract_feats(inputs: torch.Tensor) -> tuple:
        assert not any(ref() is not None for ref in seen)
        outputs, stuff = extract(inputs)
        seen.extend(weakref.ref(x) for x in (*outputs[0], *outputs[1], *stuff))
        return outputs, stuff

    monkeypatch.setattr(model.module, 'extract_feats', extract_feats)
    predict(model, view(), view(flip=True), view(scale=1.5))
    assert len(seen) == 3 * (4 + 4 + 3)  # views; logits of classes and of boxes by level, features of stuff


class CIAE(torch.nn.Module):
    """What of CIAE counts here."""

    def __init__(self) -> None:
        super().__init__()
        self.bbox_head = self.semantic_head = self.panoptic_fusion_head = torch.nn.Identity()

    def test_step(self, data: dict) -> list:
        return []

    def extract_feats(self, inputs: torch.Tensor) -> tuple:
        return (), ()

    def fuse(self, evidence: list) -> list:
        return []


def test_what_cannot_be_tested_so_is_refused():
    message = 'and CIAE has no mask head over boxes: test it without test-time augmentation'
    with pytest.raises(UserError, match=f'^tta_model: PanopticTTAModel merges masks .* {message}$'):
        PanopticTTAModel(module=CIAE())
    config = Config.fromfile(CONFIGS / 'panet/panet_r18_fpn_shapes.py')
    init_default_scope('mmpanoptic')
    expected = 'MaskRCNN has no extract_feats and no semantic_head and no panoptic_fusion_head and no fuse: .*'
    with pytest.raises(UserError, match=expected):
        MODELS.build(dict(type='PanopticTTAModel', module=config.model))
    one = view()
    del one['data_samples'][0].flip
    with pytest.raises(UserError, match="samples have no 'flip'"):
        predict(build(), one)


class LabelHead(torch.nn.Module):
    """A semantic head that has no logits to give."""

    def predict(self, features: tuple, metas: list[dict], rescale: bool) -> list[StuffLabels]:
        return [StuffLabels(torch.zeros(meta['ori_shape'][:2], dtype=torch.long)) for meta in metas]


def test_labels_of_several_views_have_no_average():
    model = build()
    model.module.semantic_head = LabelHead()
    assert len(predict(model, view())) == 1
    with pytest.raises(UserError, match='LabelHead gives StuffLabels, which cannot be averaged over views'):
        model.predict_semantics((), [dict(ori_shape=(4, 5))], as_logits=True)


@pytest.mark.parametrize(
    ('name', 'shapes'),
    [
        ('coco', [(1000, 1333), (1200, 1600), (1400, 1867)]),
        ('cityscapes', [(1024, 1365), (768, 1024), (1280, 1707)]),
        ('shapes', [(192, 256), (208, 277), (176, 235)]),
    ],
)
def test_views(name: str, shapes: list[tuple[int, int]]):
    """Of an image of 300x400 pixels, each size also mirrored."""
    init_default_scope('mmpanoptic')
    config = Config.fromfile(CONFIGS / f'_base_/tta/panoptic_{name}.py')
    assert config.tta_model == dict(type='PanopticTTAModel')
    steps = config.tta_pipeline.views
    data = dict(img=np.zeros((300, 400, 3), np.uint8), img_shape=(300, 400), ori_shape=(300, 400), img_id=1)
    views = Compose([steps])(data)
    found = [tuple(x.shape[1:]) for x in views['inputs']]
    assert found[::2] == found[1::2] == shapes
    assert [sample.flip for sample in views['data_samples']] == [False, True] * len(shapes)


@pytest.mark.parametrize(
    'path',
    [
        'spatialflow/spatialflow_r101-dconv-c3-c5_fpn_ms-20e_coco.py',
        'spatialflow/spatialflow_r101-dconv-stuff_fpn_cityscapes_coco-init-2.py',
        *sorted({path for path, _ in SYSTEMS.values()}),
    ],
)
def test_configs_can_be_tested_so(path: str):
    config = Config.fromfile(CONFIGS / path)
    model = config.model.type
    use_tta(config)
    assert config.model.type == 'PanopticTTAModel' and config.model.module.type == model
    assert config.test_dataloader.dataset.pipeline.views.type == 'TestTimeAug'


TOOL_CONFIG = """
_base_ = {base!r}
data_root = {data!r}
val_dataloader = dict(batch_size=2, dataset=dict(data_root=data_root), num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
model = dict(
    test_cfg=dict(score_thr=0.0, max_per_img=8),
    panoptic_fusion_head=dict(score_thr=0.0, stuff_area_limit=20),
)
"""
ONE_VIEW = """
val_dataloader['dataset']['pipeline'] = dict(resize=dict(scale=(192, 128)))
groups = dict(
    resize=[dict(type='Resize', scale=(192, 128), keep_ratio=True)], flip=[dict(type='RandomFlip', prob=0.0)]
)
tta_pipeline = dict(views=dict(transforms=groups))
"""


@pytest.mark.slow
def test_tool(tmp_path: Path):
    """With one view maps are those without --tta; with the config's there are PQ and AP; what does not fit is said."""
    write_dataset(tmp_path / 'shapes', {'train': 1, 'val': 3}, (96, 128), seed=0, workers=1)
    base = CONFIGS / 'spatialflow/spatialflow_r18_fpn_shapes.py'
    text = TOOL_CONFIG.format(base=str(base), data=f'{tmp_path}/shapes/')
    config, one_view = tmp_path / 'config.py', tmp_path / 'one_view.py'
    config.write_text(text)
    one_view.write_text(text + ONE_VIEW)
    init_default_scope('mmpanoptic')
    set_random_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    model.init_weights()
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict()), weights)

    def test(path: Path, *options: str) -> tuple[list[dict], str]:
        out = tmp_path / f'{path.stem}{len(options)}.pkl'
        done = run_tool('test.py', path, weights, '--out', out, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return torch.load(out, weights_only=True), done.stdout + done.stderr

    plain, _ = test(one_view)
    tta, _ = test(one_view, '--tta')
    assert len(tta) == len(plain) == 3
    for own, other in zip(tta, plain, strict=True):
        assert len(other['pred_panoptic_seg']['sem_seg'].unique()) > 2
        assert torch.equal(own['pred_panoptic_seg']['sem_seg'], other['pred_panoptic_seg']['sem_seg'])
    _, printed = test(config, '--tta', '--eval', 'PQ', 'segm', '--show-dir', 'pictures')
    assert re.search(r'│ PQ +│ +[\d.]+ │', printed) and '│ mask AP ' in printed
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == 3

    other = tmp_path / 'instances.py'
    bases = [str(CONFIGS / 'panet/panet_r18_fpn_shapes.py'), str(CONFIGS / '_base_/tta/panoptic_shapes.py')]
    other.write_text(f'_base_ = {bases}')
    refused = run_tool('test.py', other, weights, '--tta', cwd=tmp_path)
    assert refused.returncode == 1
    assert 'MaskRCNN has no extract_feats' in refused.stderr.strip().splitlines()[-1]
    assert 'Traceback' not in refused.stderr
