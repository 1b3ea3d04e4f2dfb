"""The converter of the released SpatialFlow, against its tensors' names, COCO's classes and what the network does."""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fixtures import released_spatialflow
from helpers.models import empty_tensors, on_meta
from helpers.released_listings import released_shapes
from helpers.repo import CONFIGS, load_tool, run_main
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.engine.checkpoint_files import read_checkpoint
from mmpanoptic.engine.checkpoints import RequireAllWeights
from mmpanoptic.formats.panoptic_json import dataset_meta, parse_categories
from mmpanoptic.registry import MODELS
from mmpanoptic.utils import UserError

FOLDER = CONFIGS / 'spatialflow'
KINDS = {  # listing: number of tensors, beginning of the config's name
    'spatialflow_r50': (416, 'spatialflow_r50_fpn_20e_coco'),
    'spatialflow_r101': (722, 'spatialflow_r101_fpn_20e_coco'),
    'spatialflow_r101_dcn': (782, 'spatialflow_r101-dconv-c3-c5_fpn_ms-20e_coco'),
}
NARROW = dict(base=16, channels=64, inner=32)  # what released_spatialflow.narrow makes of 64, 256 and 128


@pytest.fixture(scope='module')
def tool():
    return load_tool('model_converters/spatialflow')


@pytest.fixture(scope='module')
def shapes(shared_data):
    """Released names and shapes of each kind."""
    return released_shapes(shared_data, KINDS)


def build(config, depth=None, base=64, channels=256, inner=128, things=80, stuff=53, merge_things=True, **head):
    """The model of a config, of another size if asked for."""
    model = Config.fromfile(FOLDER / f'{config}.py').model
    if depth:
        model.backbone.depth = depth
    model.backbone.update(base_channels=base, init_cfg=None)
    expansion = 1 if depth in (18, 34) else 4
    model.neck.update(in_channels=[expansion * base * 2**i for i in range(4)], out_channels=channels)
    model.bbox_head.update(in_channels=channels, feat_channels=channels, num_classes=things, **head)
    model.mask_roi_extractor.out_channels = channels
    model.mask_head.update(in_channels=channels, conv_out_channels=channels, num_classes=things)
    model.semantic_head.update(in_channels=channels, inner_channels=inner, merge_things=merge_things)
    for part in (model.semantic_head, model.panoptic_fusion_head):
        part.update(num_things_classes=things, num_stuff_classes=stuff)
    init_default_scope('mmpanoptic')
    return MODELS.build(model)


def kind_of_tensors(tensors):
    return {name: (value.shape, value.dtype) for name, value in tensors.items()}


@pytest.mark.parametrize('release', ['', '_release'])
@pytest.mark.parametrize('kind', KINDS)
def test_every_tensor_gets_its_place(tool, shapes, kind, release):
    weights = empty_tensors(shapes[kind])
    assert len(weights) == KINDS[kind][0]
    assert f'for configs/spatialflow/{KINDS[kind][1]}_release.py' in tool.describe(tool.recognize(weights, kind))
    converted = tool.convert(weights, 36)
    assert kind_of_tensors(converted) == kind_of_tensors(on_meta(build, KINDS[kind][1] + release).state_dict())
    assert len({tool.our_name(name) for name in weights}) == len(weights)


OTHER_SIZES = {
    'narrow': NARROW,
    'classes': dict(things=3, stuff=11),
    'all classes in the semantics': dict(things=8, stuff=11, merge_things=False),
    'R18': dict(depth=18, channels=64, inner=64, things=2, stuff=4),
    'R34': dict(depth=34),
    'R152': dict(depth=152),
    'deformable stuff': dict(deformable=['stuff']),
    'one class': dict(things=1, stuff=1, base=8, channels=32, inner=32),
}


def released_names(state):
    return {
        name.replace('semantic_head.conv_logits.', 'stuff_head.conv.').replace('semantic_head.', 'stuff_head.'): value
        for name, value in state.items()
    }


@pytest.mark.parametrize('size', OTHER_SIZES.values(), ids=OTHER_SIZES)
def test_other_sizes(tool, size):
    state = on_meta(build, 'spatialflow_r50_fpn_20e_coco', **size).state_dict()
    weights = released_names(state)
    sizes = tool.recognize(weights, 'small')
    assert 'which no released model has' in tool.describe(sizes)
    channels = size.get('stuff', 53) + (1 if size.get('merge_things', True) else size['things'])
    assert (sizes.things, sizes.stuff) == (size.get('things', 80), channels)
    assert kind_of_tensors(tool.convert(weights, 0)) == kind_of_tensors(state)


def stuff_weights(rows):
    """What the last layer of the stuff head has, a number a class."""
    rows = torch.as_tensor(rows, dtype=torch.float32)
    return {'stuff_head.conv.bias': rows, 'stuff_head.conv.weight': rows[:, None, None, None].repeat(1, 2, 1, 1)}


def converted_rows(tool, rows, other):
    converted = tool.convert(stuff_weights(rows), other)
    bias, weight = (converted[f'semantic_head.conv_logits.{part}'] for part in ('bias', 'weight'))
    assert torch.equal(weight[:, 0, 0, 0], bias)
    assert torch.equal(weight[:, 1, 0, 0], bias)
    return bias.tolist()


def test_other_moves_behind_the_stuff_classes(tool):
    assert converted_rows(tool, range(54), 36) == [*range(36), *range(37, 54), 36]
    assert converted_rows(tool, range(5), 0) == [1, 2, 3, 4, 0]
    assert converted_rows(tool, range(5), 4) == [0, 1, 2, 3, 4]
    assert converted_rows(tool, range(5), None) == [0, 1, 2, 3, 4]


def test_where_other_is_if_nothing_is_said(tool):
    assert tool.default_other(tool.Sizes()) == 36
    assert tool.default_other(tool.Sizes(depth=101, channels=64)) == 36
    for numbers in (dict(stuff=12), dict(stuff=53), dict(things=20), dict(things=8, stuff=19)):
        assert tool.default_other(tool.Sizes(**numbers)) is None


def test_stuff_classes_are_those_of_the_dataset(tool, shared_data):
    """There they stand by COCO's ids, all things as 183; here as in the JSON, and what the loss calls 'other'."""
    path = shared_data / 'coco_panoptic_sample' / 'panoptic.json'
    categories = parse_categories(json.loads(path.read_text())['categories'], str(path))
    ids = sorted([category['id'] for category in categories if not category['isthing']] + [183])
    head = build('spatialflow_r50_fpn_20e_coco_release', **NARROW).semantic_head
    found = converted_rows(tool, ids, tool.default_other(tool.Sizes(stuff=len(ids))))
    for category in categories:
        target = head._targets(torch.tensor([category['label']])).item()
        assert found[target] == (183 if category['isthing'] else category['id'])


CHANGES = {
    'missing': ('backbone.layer3.5.bn2.running_var', None),
    'counter missing': ('backbone.bn1.num_batches_tracked', None),
    'missing at the end': ('bbox_head.retina_cls.bias', None),
    'flow missing': ('bbox_head.stuff_mask_flow_convs.0.conv.weight', None),
    'unknown': ('backbone.layer1.3.bn2.bias', (64,)),
    'unknown flow': ('bbox_head.reg_spatial_flow_convs.0.conv.bias', (256,)),
    'with a prefix': ('module.neck.fpn_convs.0.conv.bias', (256,)),
    'name of this project': ('semantic_head.conv_logits.bias', (54,)),
    'of another shape': ('neck.lateral_convs.0.conv.weight', (128, 512, 1, 1)),
    'first of another shape': ('backbone.conv1.weight', (32, 3, 7, 7)),
    'of more classes': ('bbox_head.retina_cls.weight', (729, 256, 3, 3)),
    'of more stuff': ('stuff_head.conv.bias', (55,)),
    'a single number': ('mask_head.conv_logits.bias', ()),
    'of the deformable kind': ('bbox_head.cls_spatial_flow_convs.1.conv.weight', (27, 256, 3, 3)),
}


@pytest.mark.parametrize(('name', 'shape'), CHANGES.values(), ids=CHANGES)
def test_other_tensors_are_refused_by_name(tool, shapes, name, shape):
    changed = {key: value for key, value in shapes['spatialflow_r50'].items() if key != name}
    if shape is not None:
        changed[name] = shape
    with pytest.raises(UserError, match=f'^some.pth .*{re.escape(name)}') as error:
        tool.recognize(empty_tensors(changed), 'some.pth')
    assert 'as its authors released it' in str(error.value)
    shown = re.findall(r'\w+(?:\.\w+){2,}', str(error.value))
    assert len(shown) <= 2, 'what is right is not blamed'


@pytest.mark.parametrize('value', [None, 'text', [1.0]])
def test_what_is_no_tensor_is_refused_by_name(tool, shapes, value):
    weights = empty_tensors(shapes['spatialflow_r50']) | {'stuff_head.conv.bias': value}
    with pytest.raises(UserError, match=r'stuff_head.conv.bias \((NoneType|str|list) instead of 54\)'):
        tool.recognize(weights, 'some.pth')


@pytest.mark.parametrize('dtype', [torch.int8, torch.complex64])
def test_numbers_of_other_kinds_are_refused_by_name(tool, dtype):
    with pytest.raises(UserError, match=f'some.pth has neck.x.weight in {dtype}'):
        tool.check_values({'neck.x.weight': torch.zeros(1, dtype=dtype)}, 'some.pth')


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(tool, value):
    with pytest.raises(UserError, match=r'some.pth has values in neck.x.weight that are not finite'):
        tool.check_values({'neck.x.weight': torch.tensor([0.0, value])}, 'some.pth')


# What the network computes.


def test_restatement_gives_the_authors_outputs(shared_data):
    data = np.load(shared_data / 'golden' / 'spatialflow_head_plain.npz')
    released = released_spatialflow.ReleasedSpatialFlow(
        {f'bbox_head.{key[3:]}': torch.from_numpy(data[key]) for key in data if key.startswith('sd/')}
    )
    for level in range(5):
        outputs = released.sub_networks(torch.from_numpy(data[f'in/{level}']))
        for name, output in zip(('cls', 'bbox', 'mask', 'stuff')[: 4 if level < 3 else 2], outputs, strict=False):
            assert_close(output, torch.from_numpy(data[f'out/{name}/{level}']))


def released_file(path, weights, **meta):
    torch.save(
        dict(meta=dict(mmdet_version='2.3.0', config='x', epoch=20, iter=293180, **meta), state_dict=weights), path
    )


def assert_close(ours, theirs, tolerance=1e-4):
    """Equal but for rounding, relative to the largest."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == torch.float32
    assert theirs.abs().max() > 0
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


# An image of 40x60, enlarged to 60x90 and padded to 64x96.
META = dict(ori_shape=(40, 60), img_shape=(60, 90), batch_input_shape=(64, 96), scale_factor=(1.5, 1.5))
# Of each size that has a level of its own, in a corner, and less than a pixel.
ROIS = [[10.0, 5, 50, 40], [0, 0, 111.9, 111.9], [3, -20, 150, 130], [-8, 7, 220, 260], [70.2, 30.7, 70.6, 31]]
CASES = {  # sizes of the listing, weights in half precision
    'R50': ('spatialflow_r50', {}, False),
    'R50 narrow, half': ('spatialflow_r50', NARROW, True),
    'R101 narrow': ('spatialflow_r101', NARROW, False),
    'R101-DCN narrow, half': ('spatialflow_r101_dcn', NARROW, True),
}


@pytest.fixture(
    scope='module',
    params=[pytest.param(case, id=name, marks=() if case[1] else pytest.mark.slow) for name, case in CASES.items()],
)
def networks(request, tool, shapes, tmp_path_factory):
    """The released network with random weights, and the model here with what the tool makes of their file."""
    kind, size, half = request.param
    sizes = released_spatialflow.narrow(shapes[kind]) if size else shapes[kind]
    weights = released_spatialflow.random_tensors(sizes)
    if half:
        weights = {
            name: value if released_spatialflow.is_norm(name) else value.half() for name, value in weights.items()
        }
    folder = tmp_path_factory.mktemp('released')
    released_file(folder / 'released.pth', weights)
    with pytest.MonkeyPatch.context() as patch:
        run_main(tool, patch, folder / 'released.pth', folder / 'ours.pth')
    model = build(f'{KINDS[kind][1]}_release', **size).eval()
    model.load_state_dict(read_checkpoint(folder / 'ours.pth')['state_dict'], strict=True)
    return released_spatialflow.ReleasedSpatialFlow(weights), model


def test_network_computes_what_the_released_one_does(networks):
    released, model = networks
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)  # BGR, as OpenCV reads
    normalised = (image[..., ::-1] - np.array(released_spatialflow.MEAN)) / np.array(released_spatialflow.STD)
    padded = np.pad(normalised, ((0, 4), (0, 6), (0, 0)))
    with torch.no_grad():
        levels = released.backbone(torch.from_numpy(padded).float().permute(2, 0, 1)[None])
        pyramid = released.neck(levels)
        theirs = [list(outputs) for outputs in zip(*map(released.sub_networks, pyramid), strict=True)]
        theirs[2:] = theirs[2][:3], theirs[3][:3]
        stuff = released.stuff_logits(theirs[3])
        masks = released.mask_logits(released_spatialflow.pool(theirs[2], torch.tensor(ROIS)))
        labels = released.stuff_labels(stuff, (64, 96), (60, 90), (40, 60))

        data = dict(inputs=[torch.from_numpy(image).permute(2, 0, 1)], data_samples=[DetDataSample(metainfo=META)])
        features = model.extract_feat(model.data_preprocessor(data)['inputs'])
        ours = model.bbox_head(features)
        stuff_feats = tuple(ours.stuff_feats)
        our_stuff = model.semantic_head(stuff_feats)['seg_preds']
        our_masks = model.mask_logits(ours.thing_feats, [torch.tensor(ROIS)])
        (our_labels,) = model.semantic_head.predict(stuff_feats, [META], rescale=True)
    assert [len(outputs) for outputs in ours] == [5, 5, 3, 3]
    for ours_of, theirs_of in zip([features, *ours], [pyramid, *theirs], strict=True):
        for our_level, their_level in zip(ours_of, theirs_of, strict=True):
            assert_close(our_level, their_level)
    assert_close(our_stuff, torch.cat([stuff[:, :36], stuff[:, 37:], stuff[:, 36:37]], dim=1))
    assert_close(our_masks, masks)
    renumbered = torch.tensor([*range(36), 53, *range(36, 53)])[labels[0]]
    assert len(renumbered.unique()) > 2
    assert (our_labels.labels != renumbered).float().mean() < 1e-3  # equals but for rounding


# The tool.


@pytest.fixture(scope='module')
def small(shapes):
    """Narrow weights, in half precision as they are released, and quick to write."""
    weights = released_spatialflow.random_tensors(released_spatialflow.narrow(shapes['spatialflow_r101_dcn'], 8))
    return {name: value if released_spatialflow.is_norm(name) else value.half() for name, value in weights.items()}


def test_file_is_converted(tool, shapes, tmp_path, monkeypatch, capsys, shared_data):
    # Views of one number each keep the file small.
    weights = {name: torch.rand(()).half().expand(shape) for name, shape in shapes['spatialflow_r101_dcn'].items()}
    released_file(tmp_path / 'released.pth', weights)
    run_main(tool, monkeypatch, tmp_path / 'released.pth', tmp_path / 'new' / 'ours.pth')
    out = capsys.readouterr().out
    assert 'for configs/spatialflow/spatialflow_r101-dconv-c3-c5_fpn_ms-20e_coco_release.py' in out
    assert '782 tensors read, 782 written' in out
    assert "channel 36, 'other', moved behind the other 53" in out
    converted = read_checkpoint(tmp_path / 'new' / 'ours.pth')
    assert converted['meta']['epoch'] == 20 and converted['meta']['iter'] == 293180

    path = shared_data / 'coco_panoptic_sample' / 'panoptic.json'
    metainfo = dataset_meta(parse_categories(json.loads(path.read_text())['categories'], str(path)))
    assert converted['meta']['dataset_meta']['classes'] == metainfo['classes']
    with torch.device('meta'):
        model = build('spatialflow_r101-dconv-c3-c5_fpn_ms-20e_coco_release')
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=metainfo))
    runner = SimpleNamespace(_load_from='ours.pth', model=model, test_dataloader=loader)
    RequireAllWeights().after_load_checkpoint(runner, converted)


def test_values_are_kept_in_float32(tool, small, tmp_path, monkeypatch, capsys):
    released_file(tmp_path / 'released.pth', small)
    run_main(tool, monkeypatch, tmp_path / 'released.pth', tmp_path / 'ours.pth', '--other-index', '53')
    out = capsys.readouterr().out
    halves = sum(value.dtype == torch.float16 for value in small.values())
    values = sum(value.numel() for value in small.values())
    assert f'{values} values; {halves} brought to float32' in out
    converted = read_checkpoint(tmp_path / 'ours.pth')['state_dict']
    assert len(converted) == len(small)
    for name, value in small.items():
        ours = converted[tool.our_name(name)]
        assert ours.dtype == (torch.int64 if name.endswith('num_batches_tracked') else torch.float32)
        assert torch.equal(ours, value.to(ours.dtype))


def test_order_that_is_not_known_is_kept_and_said(tool, small, tmp_path, monkeypatch, capsys):
    weights = {name: value[:12] if name.startswith('stuff_head.conv.') else value for name, value in small.items()}
    released_file(tmp_path / 'released.pth', weights)
    run_main(tool, monkeypatch, tmp_path / 'released.pth', tmp_path / 'kept.pth')
    assert re.search('12 channels in the order .*--other-index', capsys.readouterr().out)
    assert 'dataset_meta' not in read_checkpoint(tmp_path / 'kept.pth')['meta']
    run_main(tool, monkeypatch, tmp_path / 'released.pth', tmp_path / 'moved.pth', '--other-index', '3')
    kept, moved = (read_checkpoint(tmp_path / name)['state_dict'] for name in ('kept.pth', 'moved.pth'))
    bias = weights['stuff_head.conv.bias'].float()
    assert torch.equal(kept['semantic_head.conv_logits.bias'], bias)
    assert torch.equal(moved['semantic_head.conv_logits.bias'], bias[[0, 1, 2, *range(4, 12), 3]])
    for wrong in ('12', '-1'):
        with pytest.raises(UserError, match=f'--other-index {wrong}.* 0 to 11'):
            run_main(tool, monkeypatch, tmp_path / 'released.pth', tmp_path / 'no.pth', f'--other-index={wrong}')
    assert not (tmp_path / 'no.pth').exists()


def test_nothing_is_overwritten(tool, small, tmp_path, monkeypatch):
    released_file(tmp_path / 'released.pth', small)
    (tmp_path / 'there.pth').write_text('mine')
    with pytest.raises(UserError, match=r'released\.pth is the checkpoint to convert: name another file'):
        run_main(tool, monkeypatch, tmp_path / 'released.pth', tmp_path / 'released.pth')
    for taken in (tmp_path / 'there.pth', tmp_path):
        with pytest.raises(UserError, match='is already there: name another file'):
            run_main(tool, monkeypatch, tmp_path / 'released.pth', taken)
    assert (tmp_path / 'there.pth').read_text() == 'mine'
    assert 'meta' in read_checkpoint(tmp_path / 'released.pth')


@pytest.mark.parametrize('error', [OSError('disk full'), RuntimeError('disk full'), KeyboardInterrupt()])
def test_no_half_file_is_left(tool, small, tmp_path, monkeypatch, error):
    released_file(tmp_path / 'released.pth', small)

    def save(content, file):
        file.write(b'half')
        raise error

    monkeypatch.setattr(torch, 'save', save)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError
    with pytest.raises(expected, match='' if expected is KeyboardInterrupt else r'ours\.pth cannot be written'):
        run_main(tool, monkeypatch, tmp_path / 'released.pth', tmp_path / 'new' / 'ours.pth')
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['.ours.pth.lock']


@pytest.mark.parametrize('content', [[1], dict(model={}), dict(state_dict=[1]), dict(state_dict={1: 2})])
def test_other_files_are_refused(tool, tmp_path, monkeypatch, content):
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(UserError, match=r'other\.pth holds no weights by name under "state_dict"'):
        run_main(tool, monkeypatch, tmp_path / 'other.pth', tmp_path / 'ours.pth')
    with pytest.raises(UserError, match=r'absent\.pth does not exist'):
        run_main(tool, monkeypatch, tmp_path / 'absent.pth', tmp_path / 'ours.pth')
    assert not (tmp_path / 'ours.pth').exists()


def test_truncated_file_is_refused(tool, small, tmp_path, monkeypatch):
    released_file(tmp_path / 'released.pth', small)
    content = (tmp_path / 'released.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(content[: len(content) // 2])
    for trust in ((), ('--trust-checkpoint',)):
        with pytest.raises(UserError, match=r'cut\.pth'):
            run_main(tool, monkeypatch, tmp_path / 'cut.pth', tmp_path / 'ours.pth', *trust)
    assert not (tmp_path / 'ours.pth').exists()
