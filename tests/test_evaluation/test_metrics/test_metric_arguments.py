"""Each argument of each metric has its effect, or is refused by its name before a test."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.coco_crowds import crowd_of
from mmengine.config import ConfigDict
from mmengine.evaluator import Evaluator

from mmpanoptic.evaluation.metrics import (
    CityscapesInstanceMetric,
    InstanceMetric,
    PanopticIoUMetric,
    PanopticMetric,
    PredictionDump,
)
from mmpanoptic.registry import METRICS
from mmpanoptic.utils import UserError


def built(cls: type, **options):
    """A metric with what it needs, and options."""
    needed = {CityscapesInstanceMetric: dict(seg_prefix='x'), PredictionDump: dict(out_file_path='x.pkl')}
    return cls(**needed.get(cls, {}), **options)


METRICS_OF_OURS = [CityscapesInstanceMetric, InstanceMetric, PanopticIoUMetric, PanopticMetric]


@pytest.mark.parametrize('cls', [*METRICS_OF_OURS, PredictionDump])
def test_collect_device(cls: type):
    assert built(cls, collect_device='gpu').collect_device == 'gpu'
    with pytest.raises(UserError, match=f"{cls.__name__}: collect_device is 'tpu': 'cpu' or 'gpu' is needed"):
        built(cls, collect_device='tpu')


@pytest.mark.parametrize('cls', METRICS_OF_OURS)
def test_prefix(cls: type):
    assert built(cls).prefix == cls.default_prefix and built(cls, prefix='mine').prefix == 'mine'
    with pytest.raises(UserError, match=f"prefix is '': leave it out for '{cls.default_prefix}'"):
        built(cls, prefix='')


@pytest.mark.parametrize('cls', [CityscapesInstanceMetric, PanopticIoUMetric, PanopticMetric])
def test_folders_of_a_user_are_not_deleted(cls: type, tmp_path: Path):
    """mmengine removes ``collect_dir`` with all that is in it."""
    assert built(cls, collect_dir=str(tmp_path)).collect_dir == str(tmp_path)
    assert built(cls, collect_dir=str(tmp_path / 'new')).collect_dir
    (tmp_path / 'mine.txt').touch()
    for wrong in (tmp_path, tmp_path / 'mine.txt'):
        with pytest.raises(UserError, match='is no empty folder, and is deleted after use'):
            built(cls, collect_dir=str(wrong))


@pytest.mark.parametrize(
    ('cls', 'options', 'message'),
    [
        (PanopticMetric, dict(seg_prefix='x'), 'PanopticMetric: seg_prefix has no effect without ann_file'),
        (PanopticMetric, dict(backend_args={}), 'PanopticMetric: backend_args has no effect without ann_file'),
        (PanopticMetric, dict(format_only=True), 'format_only=True needs outfile_prefix'),
        (InstanceMetric, dict(backend_args={}), 'InstanceMetric: backend_args has no effect without ann_file'),
        (InstanceMetric, dict(sort_categories=True), 'sort_categories has no effect'),
        (InstanceMetric, dict(outfile_prefix='x/'), 'outfile_prefix x/ is a folder'),
        (InstanceMetric, dict(ann_file=[]), 'ann_file is an empty list'),
        (InstanceMetric, dict(proposal_nums=(100,)), r'proposal_nums is \(100,\): three ascending numbers'),
        (InstanceMetric, dict(proposal_nums=(300, 100, 1000)), 'three ascending numbers'),
        (InstanceMetric, dict(proposal_nums=(1, 2, 3.5)), 'three ascending numbers'),
        (InstanceMetric, dict(metric='proposal_fast', proposal_nums=()), r'proposal_nums is \(\): ascending numbers'),
        (InstanceMetric, dict(iou_thrs=[]), r'iou_thrs is \[\]'),
        (InstanceMetric, dict(iou_thrs=50), 'iou_thrs is 50: a number within'),
        (InstanceMetric, dict(iou_thrs=['a']), 'iou_thrs is'),
        (InstanceMetric, dict(iou_thrs=0.5, classwise=True), "classwise needs COCO's iou_thrs"),
        (InstanceMetric, dict(metric='proposal', classwise=True), 'classwise has no effect on proposal'),
        (InstanceMetric, dict(metric='proposal_fast', metric_items=['mAP']), 'metric_items has no effect'),
        (InstanceMetric, dict(metric_items=['mAP_90']), "holds 'mAP_90': choose from mAP, mAP_50"),
        (InstanceMetric, dict(metric_items=['AR@10']), r'AR@100, AR@300, AR@1000'),
        (InstanceMetric, dict(metric_items=['mAP_75'], iou_thrs=0.5), "'mAP_75', and iou_thrs lacks 0.75"),
        (InstanceMetric, dict(metric_items=['AR@100'], proposal_nums=(1, 10, 50)), 'AR@1, AR@10, AR@50'),
        (InstanceMetric, dict(use_mp_eval=True, collect_device='x'), 'collect_device'),
        (CityscapesInstanceMetric, dict(format_only=True), 'format_only=True needs outfile_prefix'),
    ],
)
def test_refused(cls: type, options: dict, message: str):
    with pytest.raises(UserError, match=message):
        built(cls, **options)


def test_what_no_metric_has_is_no_argument():
    for kind in ('PanopticMetric', 'InstanceMetric', 'PanopticIoUMetric', 'CityscapesInstanceMetric'):
        with pytest.raises(TypeError, match='unexpected keyword'):
            METRICS.build(dict(type=kind, classwize=True))


def test_an_iou_and_several(tmp_path: Path):
    """Objects that are all found, so that each score that there is is 1."""
    assert crowd_of([3], tmp_path, iou_thrs=0.5) == {
        'coco/bbox_mAP': 1.0, 'coco/bbox_mAP_50': 1.0, 'coco/bbox_mAP_s': 1.0, 'coco/bbox_mAP_m': -1.0,
        'coco/bbox_mAP_l': -1.0,
    }  # fmt: skip
    assert set(crowd_of([3], tmp_path, iou_thrs=[0.6, 0.75])) == {
        f'coco/bbox_{name}' for name in ('mAP', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
    }
    assert crowd_of([4], tmp_path, missed=2, iou_thrs=[0.5])['coco/bbox_mAP'] == pytest.approx(0.505)


def test_items_are_those_that_were_asked_for(tmp_path: Path):
    assert crowd_of([3], tmp_path, metric_items=['mAP_50', 'AR@100']) == {
        'coco/bbox_mAP_50': 1.0,
        'coco/bbox_AR@100': 1.0,
    }
    assert crowd_of([150], tmp_path, metric_items=['mAP_50']) == {'coco/bbox_mAP_50': 1.0}  # beyond COCO's limit
    assert crowd_of([3], tmp_path, missed=3, metric_items=['mAP']) == {'coco/bbox_mAP': 0.0}


def test_recall_has_the_name_of_its_limit(tmp_path: Path):
    """Of 10 objects that are all found, a limit of 1 leaves a tenth, of 4 four tenths."""
    scores = crowd_of([10], tmp_path, proposal_nums=(1, 4, 20), metric_items=['AR@1', 'AR@4', 'AR@20', 'AR_s@20'])
    assert scores == {
        'coco/bbox_AR@1': 0.1, 'coco/bbox_AR@4': 0.4, 'coco/bbox_AR@20': 1.0, 'coco/bbox_AR_s@20': 1.0
    }  # fmt: skip
    scores = crowd_of([10], tmp_path, metric='proposal', proposal_nums=(1, 4, 20))
    assert [scores[f'coco/AR@{n}'] for n in (1, 4, 20)] == [0.1, 0.4, 1.0]
    assert crowd_of([10], tmp_path, metric='proposal_fast', proposal_nums=(1, 4))['coco/AR@4'] == pytest.approx(0.4)


def test_classes_of_boxes_and_of_masks(tmp_path: Path):
    """mmdet gives those of masks the names of those of boxes."""
    scores = crowd_of([4, 4], tmp_path, missed=4, metric=['bbox', 'segm'], classwise=True, masks=True)
    assert {name: scores[f'coco/{name}'] for name in ('bbox_a_precision', 'bbox_b_precision')} == {
        'bbox_a_precision': 1.0, 'bbox_b_precision': 0.0
    }  # fmt: skip
    assert scores['coco/segm_a_precision'] == 1.0 and 'coco/a_precision' not in scores
    assert 'coco/a_precision' in crowd_of([4], tmp_path, classwise=True)


def test_several_processes_of_pycocotools(tmp_path: Path):
    assert crowd_of([6, 3], tmp_path, missed=4, use_mp_eval=True) == crowd_of([6, 3], tmp_path, missed=4)


def test_collecting(tmp_path: Path):
    metric = PanopticIoUMetric(prefix='mine', collect_device='cpu', collect_dir=str(tmp_path / 'parts'))
    metric.dataset_meta = dict(classes=['a'])
    truth = dict(sem_seg=torch.full((1, 2, 2), 5), segments_info=[dict(id=5, label=0)])
    metric.process({}, [dict(img_path='x', gt_panoptic_seg=truth, pred_panoptic_seg=dict(sem_seg=torch.zeros(1, 2, 2, dtype=torch.long)))])  # fmt: skip # noqa: E501
    assert Evaluator([metric]).evaluate(1) == {'mine/mIoU': 100.0, 'mine/mAcc': 100.0, 'mine/aAcc': 100.0}


def test_options_of_a_config(tmp_path: Path):
    """Lists of a config are no tuples of Python's."""
    options = ConfigDict(type='InstanceMetric', metric=['bbox'], proposal_nums=[1, 2, 3], iou_thrs=[0.5])
    metric = METRICS.build(options)
    assert metric.proposal_nums == [1, 2, 3] and np.array_equal(metric.iou_thrs, [0.5])
