"""The converter of the released PANet, against its tensors' names, the authors' modules, and what the network does."""

import re

import numpy as np
import pytest
import torch
from fixtures import released_panet
from helpers.models import empty_tensors
from helpers.released_listings import released_shapes
from helpers.repo import ROOT, load_tool, run_main
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmpanoptic.engine.checkpoint_files import read_checkpoint
from mmpanoptic.engine.checkpoints import first_misfit
from mmpanoptic.registry import MODELS
from mmpanoptic.utils import UserError

KINDS = {  # listing: number of tensors, config
    'panet_r50_2x_mask': (273, 'panet_r50-caffe_fpn_gn_180k_coco_release'),
    'panet_r50_1x_det': (240, 'panet-det_r50-caffe_fpn_gn_90k_coco_release'),
    'panet_r50_1x_det_2fc': (237, 'panet-det-2fc_r50-caffe_fpn_gn_90k_coco_release'),
}
GN = dict(type='GN', num_groups=32)


@pytest.fixture(scope='module')
def tool():
    return load_tool('model_converters/panet')


@pytest.fixture(scope='module')
def shapes(shared_data):
    """Released names and shapes of each kind."""
    return released_shapes(shared_data, KINDS)


def build(kind, num_classes=80):
    """The model of the release config of a kind."""
    model = Config.fromfile(ROOT / 'configs' / 'panet' / f'{KINDS[kind][1]}.py').model
    for head in filter(None, (model.roi_head.bbox_head, model.roi_head.mask_head)):
        head.num_classes = num_classes
    init_default_scope('mmpanoptic')
    return MODELS.build(model)


def with_classes(shapes, num_classes):
    rows = {81: num_classes + 1, 324: 4 * (num_classes + 1)}
    return {
        name: (rows[shape[0]], *shape[1:]) if name.startswith(('Box_Outs', 'Mask_Outs')) else shape
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize('num_classes', [80, 3])
@pytest.mark.parametrize('kind', KINDS)
def test_every_tensor_gets_its_place(tool, shapes, kind, num_classes):
    weights = empty_tensors(with_classes(shapes[kind], num_classes))
    assert len(weights) == KINDS[kind][0]
    converted = tool.convert(weights, tool.recognize(weights, kind))
    with torch.device('meta'):
        model = build(kind, num_classes).state_dict()
    assert {name: value.shape for name, value in converted.items()} == {
        name: value.shape for name, value in model.items()
    }


@pytest.mark.parametrize('kind', KINDS)
def test_nothing_but_the_background_is_dropped(tool, shapes, kind):
    weights = empty_tensors(shapes[kind])
    converted = tool.convert(weights, tool.recognize(weights, kind))
    written = [value for name, value in converted.items() if 'running_' not in name and 'num_batches' not in name]
    background = 4 * 1025 + (257 if 'mask' in kind else 0)
    assert len(written) == len(weights)
    assert sum(value.numel() for value in written) == sum(value.numel() for value in weights.values()) - background


def test_classes_move_to_where_they_are_here(tool):
    rows = torch.arange(12.0)
    layer = tool.Layer('Box_Outs.bbox_pred', 'x', (12, 1))
    weights = {'Box_Outs.bbox_pred.weight': rows[:, None], 'Box_Outs.bbox_pred.bias': rows}
    assert tool.convert_layer(layer, weights)['x.bias'].tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    for theirs, expected in (('Box_Outs.cls_score', [1, 2, 0]), ('Mask_Outs.classify', [1, 2])):
        layer = tool.Layer(theirs, 'x', (3, 1, 1, 1))
        weights = {f'{theirs}.weight': rows[:3, None, None, None], f'{theirs}.bias': rows[:3]}
        converted = tool.convert_layer(layer, weights)
        assert converted['x.bias'].tolist() == converted['x.weight'].flatten().tolist() == expected


CHANGES = {
    'missing': ('Conv_Body.conv_body.res4.5.bn2.bias', None),
    'missing at the end': ('Box_Outs.cls_score.bias', None),
    'unknown': ('Conv_Body.conv_body.res4.6.bn2.bias', (256,)),
    'with a prefix': ('module.RPN.FPN_RPN_conv.bias', (256,)),
    'of another shape': ('RPN.FPN_RPN_conv.weight', (256, 256, 1, 1)),
    'of no kind': ('Box_Head.fc2.0.bias', (1024,)),
    'of more classes': ('Mask_Outs.classify.weight', (82, 256, 1, 1)),
}


@pytest.mark.parametrize(('name', 'shape'), CHANGES.values(), ids=CHANGES)
def test_other_tensors_are_refused_by_name(tool, shapes, name, shape):
    changed = {key: value for key, value in shapes['panet_r50_2x_mask'].items() if key != name}
    if shape:
        changed[name] = shape
    with pytest.raises(UserError, match=f'^some.pth .*{re.escape(name)}'):
        tool.recognize(empty_tensors(changed), 'some.pth')


@pytest.mark.parametrize('value', [None, 'text'])
def test_what_is_no_tensor_is_refused_by_name(tool, shapes, value):
    with pytest.raises(UserError, match=r'RPN.FPN_RPN_conv.bias \((NoneType|str) instead of 256\)'):
        tool.recognize(empty_tensors(shapes['panet_r50_1x_det']) | {'RPN.FPN_RPN_conv.bias': value}, 'some.pth')


def test_authors_neck_is_reproduced(tool, shared_data):
    golden = np.load(shared_data / 'golden' / 'panet_fpn_bpa_gn.npz')
    weights = {f'Conv_Body.{key[3:]}': torch.from_numpy(golden[key]) for key in golden if key.startswith('sd/')}
    layers = [layer for layer in tool.released_layers() if layer.ours.startswith('neck.')]
    assert {name for layer in layers for name in layer.shapes} == weights.keys()
    neck = MODELS.build(
        dict(
            type='PAFPN',
            in_channels=[32, 64, 128, 256],
            out_channels=64,
            num_outs=5,
            norm_cfg=GN,
            bottom_up_bias=True,
        )
    )
    neck.load_state_dict({k.removeprefix('neck.'): v for k, v in tool.convert(weights, layers).items()})
    with torch.no_grad():
        outs = neck([torch.from_numpy(golden[f'in/C{i}']) for i in (2, 3, 4, 5)])
    for out, name in zip(outs, ('4_N2', '3_N3', '2_N4', '1_N5', '0_P6'), strict=True):
        np.testing.assert_allclose(out.numpy(), golden[f'out/{name}'], atol=2e-5, rtol=0)


def test_authors_box_head_is_reproduced(tool, shared_data):
    golden = np.load(shared_data / 'golden' / 'panet_box_head_2fc.npz')
    weights = {key[3:]: torch.from_numpy(golden[key]) for key in golden if key.startswith('sd/')}
    layers = [x for x in tool.released_layers(two_fc=True) if x.ours.startswith('roi_head.bbox_head.')]
    layers = [x for x in layers if 'mask' not in x.ours]
    assert {name for layer in layers for name in layer.shapes} == weights.keys()
    head = MODELS.build(
        dict(type='AdaptivePoolingBBoxHead', in_channels=64, fc_out_channels=128, num_classes=80, fc_norm_cfg=GN)
    )
    converted = tool.convert(weights, layers)
    head.load_state_dict({name.removeprefix('roi_head.bbox_head.'): value for name, value in converted.items()})
    with torch.no_grad():
        pooled = torch.stack([torch.from_numpy(golden[f'in/pooled_level{i}']) for i in (2, 3, 4, 5)], dim=1)
        logits, deltas = head(pooled)
    np.testing.assert_allclose(logits, np.roll(golden['out/cls_logits'], -1, axis=1), atol=2e-5, rtol=0)
    np.testing.assert_allclose(deltas, golden['out/bbox_pred'][:, 4:], atol=2e-5, rtol=0)


def assert_close(ours, theirs, tolerance=1e-4):
    """Equal but for rounding, relative to the largest."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_has_the_released_conventions(kind):
    model = build(kind)
    assert all(cfg.nms.offset == 1 for cfg in (model.test_cfg.rpn, model.test_cfg.rcnn))
    assert type(model.rpn_head.prior_generator).__name__ == 'DetectronAnchorGenerator'
    assert {type(head.bbox_coder).__name__ for head in (model.rpn_head, model.roi_head.bbox_head)} == {
        'DetectronBBoxCoder'
    }
    extractors = [module for name, module in model.roi_head.named_children() if name.endswith('_extractor')]
    assert len(extractors) == 1 + ('mask' in kind)
    for layer in (layer for extractor in extractors for layer in extractor.roi_layers):
        assert (layer.aligned, layer.sampling_ratio) == (False, 2)
    assert type(model.rpn_head).__name__ == 'DetectronRPNHead'
    assert type(model.roi_head).__name__ == 'DetectronRoIHead'
    assert model.backbone.style == 'caffe'
    assert not model.data_preprocessor._channel_conversion
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx(released_panet.MEAN)


@pytest.fixture(scope='module')
def pair(tool, shapes):
    """The released network with random weights, and the model here with these weights converted."""
    weights = released_panet.random_tensors(shapes['panet_r50_2x_mask'])
    # Scores that differ, deltas of a usual size.
    weights['RPN.FPN_RPN_bbox_pred.weight'] *= 0.3
    weights['Box_Outs.cls_score.weight'] *= 3
    model = build('panet_r50_2x_mask').eval()
    model.test_cfg.rpn.max_per_img = 100
    model.load_state_dict(tool.convert(weights, tool.recognize(weights, 'random')))
    return released_panet.ReleasedPANet(weights), model


# An image of 40x60, enlarged to 64x96, which is also what is padded to.
META = dict(ori_shape=(40, 60), img_shape=(64, 96), batch_input_shape=(64, 96), scale_factor=(1.6, 1.6))


@pytest.fixture(scope='module')
def features(pair):
    """N2 to P6 of the image, there and here."""
    released, model = pair
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)  # BGR, as OpenCV reads
    with torch.no_grad():
        blob = torch.from_numpy(image - np.array(released_panet.MEAN)).float().permute(2, 0, 1)[None]
        theirs = released.neck(released.backbone(blob))
        data = dict(inputs=[torch.from_numpy(image).permute(2, 0, 1)], data_samples=[DetDataSample(metainfo=META)])
        ours = model.extract_feat(model.data_preprocessor(data)['inputs'])
    return theirs, ours


def test_features_are_the_same(features):
    for theirs, ours in zip(*features, strict=True):
        assert_close(ours, theirs)


def test_proposals_are_the_same(pair, features):
    released, model = pair
    with torch.no_grad():
        theirs = [released.rpn(level) for level in features[0]]
        logits, deltas = model.rpn_head(features[1])
        for (their_logits, their_deltas), *ours in zip(theirs, logits, deltas, strict=True):
            assert_close(ours[0], their_logits)
            assert_close(ours[1], their_deltas)
        # From the same logits: rounding must not decide which of two equal boxes stays.
        (found,) = model.rpn_head.predict_by_feat(
            *map(list, zip(*theirs, strict=True)), batch_img_metas=[META], cfg=model.test_cfg.rpn
        )
    boxes, scores = released_panet.proposals(theirs, 64, 96, limit=100)
    assert len(np.unique(scores)) == 100
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
    np.testing.assert_allclose(found.bboxes, boxes, atol=1e-3)


def test_proposals_are_cut_to_the_padded_input(pair, features):
    """In testing, although the image ends before; in training to the image."""
    released, model = pair
    meta = dict(META, img_shape=(50, 70), ori_shape=(40, 56), scale_factor=(1.25, 1.25))
    with torch.no_grad():
        outputs = [released.rpn(level) for level in features[0]]
        maps = list(map(list, zip(*outputs, strict=True)))
        (found,) = model.rpn_head.predict_by_feat(*maps, batch_img_metas=[meta], cfg=model.test_cfg.rpn)
        model.rpn_head.train()
        (cut,) = model.rpn_head.predict_by_feat(*maps, batch_img_metas=[meta], cfg=model.test_cfg.rpn)
        model.rpn_head.eval()
    boxes, _ = released_panet.proposals(outputs, 64, 96, limit=100)
    np.testing.assert_allclose(found.bboxes, boxes, atol=1e-3)
    assert found.bboxes[:, 2:].amax(0).tolist() == [95, 63]
    assert cut.bboxes[:, 2:].amax(0).tolist() == [69, 49]


ROIS = [[0, 0, 95, 63], [10, 5, 50, 40], [30.5, 20.25, 61.75, 60], [70, 3, 70, 3], [60, 30, 95, 63], [5, 33, 24, 52.0]]


def test_detections_are_the_same(pair, features):
    released, model = pair
    rois = torch.tensor(ROIS)
    with torch.no_grad():
        levels = features[0][:4]
        pooled = [released_panet.pool(level, rois, 7, 4 * 2**i) for i, level in enumerate(levels)]
        logits, deltas = released.box_head(pooled)
        sample = DetDataSample(metainfo=META)
        (found,) = model.roi_head.predict(levels, [InstanceData(bboxes=rois)], [sample], rescale=True)
        boxes, scores, labels = released_panet.detections(rois.double().numpy(), logits, deltas, 1.6, 40, 60)
        pooled = [
            released_panet.pool(level, torch.from_numpy(boxes * 1.6).float(), 14, 4 * 2**i)
            for i, level in enumerate(levels)
        ]
        masks = released.mask_head(pooled).sigmoid()[torch.arange(len(boxes)), labels].numpy()
    assert len(boxes) > 5
    assert found.labels.tolist() == (labels - 1).tolist()
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4)
    # Handed out as ending where the last pixel does.
    np.testing.assert_allclose(found.bboxes, boxes + np.array([0, 0, 1, 1]), atol=1e-3)
    expected = np.stack([released_panet.paste(mask, box, 40, 60) for mask, box in zip(masks, boxes, strict=True)])
    assert expected.any()
    assert (found.masks.numpy() != expected).mean() < 1e-4

    with torch.no_grad():
        (enlarged,) = model.roi_head.predict(levels, [InstanceData(bboxes=rois)], [sample])
    np.testing.assert_allclose(enlarged.bboxes, found.bboxes * 1.6, rtol=1e-5)
    assert enlarged.masks.shape == (len(found), 64, 96)


def test_two_fc_head_is_the_same(tool, shapes):
    weights = {k: v for k, v in shapes['panet_r50_1x_det_2fc'].items() if k.startswith('Box_')}
    weights = released_panet.random_tensors(weights)
    layers = [x for x in tool.released_layers(two_fc=True, masks=False) if x.theirs.startswith('Box_')]
    head = build('panet_r50_1x_det_2fc').roi_head.bbox_head
    converted = tool.convert(weights, layers)
    head.load_state_dict({name.removeprefix('roi_head.bbox_head.'): value for name, value in converted.items()})
    pooled = torch.randn(3, 4, 256, 7, 7)
    with torch.no_grad():
        logits, deltas = head(pooled)
        their_logits, their_deltas = released_panet.ReleasedPANet(weights).box_head(pooled.unbind(1))
    assert_close(logits, their_logits.roll(-1, dims=1))
    assert_close(deltas, their_deltas[:, 4:])


def released_file(path, shapes):
    """A checkpoint in the old format. Its tensors are views of one number each, which keeps the file small."""
    weights = {name: torch.rand(1).expand(shape) for name, shape in shapes.items()}
    content = dict(step=179999, train_size=117266, batch_size=8, model=weights, optimizer=dict(state={}))
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return weights


def test_file_is_converted(tool, shapes, tmp_path, monkeypatch, capsys):
    released = released_file(tmp_path / 'panet.pth', shapes['panet_r50_1x_det'])
    run_main(tool, monkeypatch, tmp_path / 'panet.pth', tmp_path / 'new' / 'ours.pth')
    out = capsys.readouterr().out
    assert '80 classes, for configs/panet/panet-det_r50-caffe_fpn_gn_90k_coco_release.py' in out
    assert '240 tensors read, 240 written and 159 statistics' in out
    assert 'dropped: 4 of Box_Outs.bbox_pred' in out
    converted = read_checkpoint(tmp_path / 'new' / 'ours.pth')
    assert converted['meta']['dataset_meta']['classes'][:2] == ('person', 'bicycle')
    assert converted['meta']['step'] == 179999
    with torch.device('meta'):
        model = build('panet_r50_1x_det')
    assert first_misfit(model, converted['state_dict']) is None
    weight = converted['state_dict']['rpn_head.rpn_conv.weight']
    assert torch.equal(weight, released['RPN.FPN_RPN_conv.weight'])


def test_result_must_not_replace_the_source(tool, shapes, tmp_path, monkeypatch):
    released_file(tmp_path / 'panet.pth', with_classes(shapes['panet_r50_1x_det'], 3))
    with pytest.raises(UserError, match='name another file'):
        run_main(tool, monkeypatch, tmp_path / 'panet.pth', tmp_path / 'panet.pth')
    assert 'model' in read_checkpoint(tmp_path / 'panet.pth')


@pytest.mark.parametrize('content', [[1], dict(state_dict={}), dict(model=[1])])
def test_other_files_are_refused(tool, tmp_path, monkeypatch, content):
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(UserError, match=r'other\.pth holds no weights by name under "model"'):
        run_main(tool, monkeypatch, tmp_path / 'other.pth', tmp_path / 'ours.pth')
    with pytest.raises(UserError, match=r'absent\.pth does not exist'):
        run_main(tool, monkeypatch, tmp_path / 'absent.pth', tmp_path / 'ours.pth')
