"""The check of all PNGs and of the model before a run."""

import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers.panoptic_files import PanopticFiles
from mmdet.models.dense_heads import RetinaHead, RPNHead
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.seg_heads import PanopticFPNHead
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.registry import init_default_scope
from mmengine.runner.base_loop import BaseLoop
from torch import nn
from torch.utils.data import Subset

from mmpanoptic.datasets import CocoPanopticDataset, validation
from mmpanoptic.datasets.validation import (
    check_panoptic_pngs,
    check_png,
    panoptic_datasets,
)
from mmpanoptic.datasets.wrappers import check_same_classes
from mmpanoptic.engine.hooks import PanopticCheckHook
from mmpanoptic.engine.hooks.check_hook import check_classes
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import DatasetError, UserError


@pytest.fixture
def files(tmp_path):
    return PanopticFiles(tmp_path)


def other_files(root):
    root.mkdir()
    return PanopticFiles(root)


def wrong_size(files):
    files.ids[10] = files.ids[10][:-1]
    files.write_png(10)


def swapped_size(files):
    files.panoptic['images'][0] |= {'height': 40, 'width': 32}
    files.save()


def id_only_in_png(files):
    files.ids[10][0, 0] = 77
    files.write_png(10)


def id_only_in_json(files):
    files.ids[10][files.ids[10] == 301] = 300
    files.write_png(10)


def other_image(files):
    files.png(10).write_bytes(files.png(20).read_bytes())


def truncated(files):
    files.png(10).write_bytes(files.png(10).read_bytes()[:-20])


def empty(files):
    files.png(10).write_bytes(b'')


def greyscale(files):
    cv2.imwrite(str(files.png(10)), files.ids[10].astype(np.uint8))


def gone(files):
    files.png(10).unlink()


def corners(files):
    files.annotation(10)['segments_info'][3]['bbox'] = [10, 12, 26, 24]  # x1, y1, x2, y2
    files.save()


def negative(files):
    files.annotation(10)['segments_info'][3]['bbox'] = [-1, 12, 16, 10]
    files.save()


def relative(files):
    files.annotation(10)['segments_info'][3]['bbox'] = [0.1, 0.2, 0.3, 0.4]
    files.save()


def whole_image(files):
    files.annotation(10)['segments_info'][3]['bbox'] = [0, 0, 40, 32]
    files.save()


def half_area(files):
    files.annotation(10)['segments_info'][3]['area'] /= 2
    files.save()


FAULTS = [
    (wrong_size, r'10\.png is 31x40 \(height x width\), its image 32x40: wrong file or wrong size'),
    (swapped_size, r'10\.png is 32x40 \(height x width\), its image 40x32: wrong file or wrong size'),
    (id_only_in_png, r'10\.png holds segment id 77 that its segments_info lacks: .* not of one release'),
    (id_only_in_json, r'10\.png has no pixel of segment id 301 of its segments_info \(image id 10\): .* release'),
    (other_image, r'10\.png is 24x36 .* 32x40'),
    (truncated, r'10\.png is truncated .*: fetch or write it again'),
    (empty, r'10\.png is not a PNG file: panoptic maps are'),
    (greyscale, r'10\.png is uint8 of shape .*: panoptic maps are 8-bit RGB PNGs'),
    (gone, r'10\.png does not exist: check `data_root` and `data_prefix`'),
    (
        corners,
        r'10\.png: segment id 301 has bbox \[10, 12, 26, 24\] .* \(image id 10, 32x40\): write \[x, y, width, height\]',
    ),
    (relative, r'10\.png: segment id 301 has bbox \[0\.1, 0\.2, 0\.3, 0\.4\] .* its pixels have \['),
    (whole_image, r'10\.png: segment id 301 has bbox \[0, 0, 40, 32\] .* its pixels have \['),
    (half_area, r'10\.png: segment id 301 has area .* in the JSON and .* pixels \(image id 10\): write the number'),
    (negative, r'10\.png: segment id 301 has bbox \[-1, 12, 16, 10\] .*: write \[x, y, width, height\]'),
]


@pytest.mark.parametrize(('fault', 'message'), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_each_fault_is_found(fault, message, files):
    assert check_panoptic_pngs(files.dataset(), workers=1) == 3
    dataset = files.dataset()
    fault(files)
    if fault in (swapped_size, corners, negative, relative, whole_image, half_area):
        dataset = files.dataset()
    with pytest.raises(DatasetError, match=message) as info:
        check_panoptic_pngs(dataset, workers=2)
    assert '\n' not in str(info.value)


def test_boxes_that_count_from_corners_are_taken(files):
    """Some tools write the last pixel minus the first as the width, or halves of pixels."""
    for annotation in files.panoptic['annotations']:
        for segment in annotation['segments_info']:
            x, y, w, h = segment['bbox']
            segment['bbox'] = [x + 0.5, y, w - 1 if w > 1 else 1, h]
    files.save()
    assert check_panoptic_pngs(files.dataset(), workers=1) == 3


def test_coco_sample_fits(shared_data):
    root = str(shared_data / 'coco_panoptic_sample')
    dataset = CocoPanopticDataset(ann_file='panoptic.json', data_root=root, data_prefix={'img': 'images'}, indices=40)
    assert check_panoptic_pngs(dataset) == 40


def test_what_the_dataset_leaves_out_is_not_checked(files):
    truncated(files)
    assert check_panoptic_pngs(files.dataset(indices=[0, 2])) == 2
    assert check_panoptic_pngs(files.dataset(filter_cfg={'min_size': 33}, test_mode=True, indices=[0])) == 1
    with pytest.raises(DatasetError, match=r'10\.png is truncated'):
        check_panoptic_pngs(files.dataset(filter_cfg={'filter_empty_gt': True}))


def test_nothing_to_check(files):
    del files.panoptic['annotations']
    files.save()
    assert check_panoptic_pngs(files.dataset(test_mode=True)) == 0


def test_remote_pngs_are_not_checked(files):
    dataset = files.dataset()
    truncated(files)
    dataset.backend_args = {'backend': 'http'}
    assert check_panoptic_pngs(dataset) == 0
    dataset.backend_args = {'backend': 'local'}
    with pytest.raises(DatasetError, match=r'10\.png is truncated'):
        check_panoptic_pngs(dataset)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(validation, 'REMEMBER_FROM', 3)
    monkeypatch.setenv('MMPANOPTIC_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def later(path):
    """Make a file look as if it had been written a second later."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_large_datasets_are_remembered(files, cache):
    assert check_panoptic_pngs(files.dataset()) == 3
    assert check_panoptic_pngs(files.dataset()) == 0
    assert len(list((cache / 'checked').iterdir())) == 1
    for change in (files.png(20), files.root / 'panoptic.json'):
        later(change)
        assert check_panoptic_pngs(files.dataset()) == 3
        assert check_panoptic_pngs(files.dataset()) == 0


def test_stamp_covers_what_was_checked_only(files, cache):
    truncated(files)
    assert check_panoptic_pngs(files.dataset(indices=[0, 2])) == 2  # fewer than are remembered
    assert not cache.exists()
    validation.REMEMBER_FROM = 2
    assert check_panoptic_pngs(files.dataset(indices=[0, 2])) == 2
    assert check_panoptic_pngs(files.dataset(indices=[0, 2])) == 0
    with pytest.raises(DatasetError, match=r'10\.png is truncated'):
        check_panoptic_pngs(files.dataset())


@pytest.mark.parametrize('fault', [wrong_size, id_only_in_png, id_only_in_json, truncated])
def test_stamp_does_not_hide_a_fault(fault, files, cache):
    assert check_panoptic_pngs(files.dataset()) == 3
    fault(files)  # rewritten in place: the folder's own time stays what it was
    for _ in range(2):  # and a check that failed is not remembered
        with pytest.raises(DatasetError, match=r'10\.png'):
            check_panoptic_pngs(files.dataset())


def test_cache_that_cannot_be_written(files, cache):
    cache.write_text('a file where the folder should be')
    assert check_panoptic_pngs(files.dataset()) == 3
    assert check_panoptic_pngs(files.dataset()) == 3


def test_wrappers_are_looked_into(files):
    first, second = files.dataset(), files.dataset()
    for wrapped, inner in [
        (first, [first]),
        (RepeatDataset(first, 2), [first]),
        (ConcatDataset([first, second]), [first, second]),
        (ClassBalancedDataset(first, 1e-3), [first]),
        (Subset(first, [0]), [first]),
        (object(), []),
    ]:
        found = list(panoptic_datasets(wrapped))
        assert len(found) == len(inner)
        assert all(a is b for a, b in zip(found, inner, strict=True))


def nested(*configs):
    """A dataset that is repeated, in one that is concatenated, in one that is repeated."""
    init_default_scope('mmpanoptic')
    repeated = [{'type': 'RepeatDataset', 'dataset': config, 'times': 2} for config in configs]
    return DATASETS.build(
        {'type': 'RepeatDataset', 'dataset': {'type': 'ConcatDataset', 'datasets': repeated}, 'times': 3}
    )


def test_nested_wrappers_are_looked_into(files):
    dataset = nested(files.config(indices=[0]), files.config(indices=[1]))
    assert len(dataset) == 12
    assert [inner.get_data_info(0)['img_id'] for inner in panoptic_datasets(dataset)] == [30, 10]


def test_check_png(files):
    check_png(files.dataset().get_data_info(0))


def test_same_classes(files, tmp_path):
    val = other_files(tmp_path / 'val')
    check_same_classes([])
    check_same_classes([files.dataset(), val.dataset()])
    val.panoptic['categories'].reverse()
    val.save()
    message = r"panoptic\.json and .*val/panoptic\.json differ in class 0 \('cat' against 'dog'\): list the same"
    with pytest.raises(DatasetError, match=message):
        check_same_classes([files.dataset(), val.dataset()])
    val.panoptic['categories'].reverse()
    val.panoptic['categories'][1]['isthing'] = 0  # cat
    val.save()
    with pytest.raises(DatasetError, match=r"differ in class 0 \('cat' against 'dog'\)"):
        check_same_classes([files.dataset(), val.dataset()])
    val.panoptic['categories'][1]['isthing'] = 1
    val.panoptic['categories'][0]['isthing'] = 1  # sky, now the first label
    val.save()
    with pytest.raises(DatasetError, match='differ in class 0'):
        check_same_classes([files.dataset(), val.dataset()])
    val.panoptic['categories'][0] = {'id': 7, 'name': 'sky', 'isthing': 0}
    val.panoptic['categories'].append({'id': 9, 'name': 'sea', 'isthing': 0})
    val.save()
    with pytest.raises(DatasetError, match=r"differ in class 4 \(None against 'sea'\)"):
        check_same_classes([files.dataset(), val.dataset()])


# The hook


class Loop(BaseLoop):
    """A loop that was built, over a dataset."""

    def __init__(self, dataset):
        self.dataloader = SimpleNamespace(dataset=dataset)

    def run(self):
        raise NotImplementedError


class Model(nn.Module):
    """Heads of a panoptic model for 2 things and 2 stuff classes, one of which may be made for other numbers."""

    def __init__(self, **wrong):
        super().__init__()
        self.rpn = RPNHead(in_channels=4, feat_channels=4)  # its single class is no class of the dataset
        self.boxes = Shared2FCBBoxHead(num_classes=wrong.get('boxes', 2), in_channels=4, fc_out_channels=4)
        self.masks = FCNMaskHead(num_classes=wrong.get('masks', 2), in_channels=4, conv_out_channels=4)
        self.one_stage = RetinaHead(num_classes=wrong.get('one_stage', 2), in_channels=4, feat_channels=4)
        self.semantic = PanopticFPNHead(
            num_things_classes=wrong.get('things', 2),
            num_stuff_classes=wrong.get('stuff', 2),
            in_channels=32,
            inner_channels=32,
        )


def runner(model=None, train=None, val=None, test=None):
    def loop(dataset):
        return {'type': 'Loop'} if dataset is None else Loop(dataset)

    return SimpleNamespace(model=model or Model(), _train_loop=loop(train), _val_loop=loop(val), _test_loop=loop(test))


@pytest.mark.parametrize(
    ('wrong', 'module'),
    [('boxes', 'boxes'), ('masks', 'masks'), ('one_stage', 'one_stage'), ('things', 'semantic'), ('stuff', 'semantic')],
)
def test_wrong_number_of_classes_names_the_module(wrong, module, files):
    meta = files.dataset().metainfo
    check_classes(Model(), meta, 'x.json')
    with pytest.raises(
        UserError, match=rf'x\.json has 2 thing and 2 stuff classes, but `model\.{module}` is made for .*: set its'
    ):
        check_classes(Model(**{wrong: 5}), meta, 'x.json')


def test_hook_checks_what_is_built(files, tmp_path):
    val = other_files(tmp_path / 'val')
    hook = PanopticCheckHook()
    hook.before_run(runner(train=files.dataset(), val=val.dataset()))
    hook.before_run(runner())
    truncated(val)
    hook.before_run(runner(train=files.dataset()))
    for loops in ({'train': val.dataset()}, {'val': val.dataset()}, {'test': val.dataset()}):
        with pytest.raises(DatasetError, match=r'val/panoptic/10\.png is truncated'):
            hook.before_run(runner(**loops))
    with pytest.raises(DatasetError, match=r'val/panoptic/10\.png is truncated'):
        hook.before_run(runner(train=nested(files.config(), val.config())))
    PanopticCheckHook(check_pngs=False).before_run(runner(train=val.dataset()))


def test_hook_compares_classes(files, tmp_path):
    for check_pngs in (True, False):
        with pytest.raises(UserError, match=r'model\.boxes'):
            PanopticCheckHook(check_pngs).before_run(runner(Model(boxes=3), train=RepeatDataset(files.dataset(), 2)))
    val = other_files(tmp_path / 'val')
    val.panoptic['categories'].reverse()
    val.save()
    with pytest.raises(DatasetError, match='differ in class 0'):
        PanopticCheckHook().before_run(runner(train=files.dataset(), val=val.dataset()))


@pytest.mark.parametrize('rcnn', [True, False])
def test_hook_warns_of_images_with_more_things_than_are_detected(rcnn, files, monkeypatch):
    said = []
    monkeypatch.setattr('mmpanoptic.engine.hooks.check_hook.print_log', lambda text, *_: said.append(text))
    dataset = files.dataset(test_mode=True)
    most = max(
        sum(not one['ignore_flag'] for one in info['instances'])
        for info in map(dataset.get_data_info, range(len(dataset)))
    )
    assert most
    for limit, warns in ((most - 1, True), (most, False), (-1, False)):
        model, said[:] = Model(), []
        model.test_cfg = dict(rcnn=dict(max_per_img=limit)) if rcnn else dict(max_per_img=limit)
        PanopticCheckHook().before_run(runner(model, train=dataset))
        assert not said, 'training has no such limit'
        PanopticCheckHook().before_run(runner(model, val=dataset))
        assert len(said) == warns
    key = 'test_cfg.rcnn.max_per_img' if rcnn else 'test_cfg.max_per_img'
    model.test_cfg = dict(rcnn=dict(max_per_img=0)) if rcnn else dict(max_per_img=0)
    PanopticCheckHook().before_run(runner(model, test=dataset))
    assert said[-1].endswith(f'the model detects at most 0 in one: set model.{key} to more')
