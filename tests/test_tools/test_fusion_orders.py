"""Five orders of the ground truth's own instances: the true one gives a perfect map."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fixtures.cityscapes import load_tool
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmpanoptic.datasets.shapes.writer import write_dataset
from mmpanoptic.evaluation.panoptic_quality import average, per_class
from mmpanoptic.registry import MODELS
from mmpanoptic.utils import UserError

ROOT = Path(__file__).resolve().parents[2]
TOOL = load_tool('analysis_tools/fusion_orders')
THINGS, STUFF = 7, 6


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """OANet on Shapes of 96x128, nothing left out in fusion."""
    data = tmp_path_factory.mktemp('orders') / 'shapes'
    write_dataset(data, {'train': 12, 'val': 12}, (96, 128), seed=0, workers=1)
    config = Config.fromfile(ROOT / 'configs/oanet/oanet_r18_fpn_shapes.py')
    init_default_scope('mmpanoptic')
    for loader in (config.train_dataloader, config.test_dataloader):
        loader.dataset.data_root = f'{data}/'
    config.model.panoptic_fusion_head.update(overlap_thr=1.0, stuff_area_limit=0)
    config.model.rpn_head.anchor_generator.scales = [4]
    return config


@pytest.fixture
def model(config: Config) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS.build(config.model).eval()


def perfect_outputs(model, sample):
    """The ground truth as what the fusion head gets, the hindmost most confident."""
    ground_truth = sample['data_samples'].gt_instances
    masks = ground_truth.masks.to_tensor(torch.bool, 'cpu')
    scores = torch.linspace(0.9, 0.6, len(masks))  # instances are listed from back to front
    semantic = sample['data_samples'].gt_sem_seg.sem_seg[0].long() - THINGS
    logits = torch.nn.functional.one_hot(semantic.clamp(0, STUFF - 1), STUFF).permute(2, 0, 1).float()
    other = ((semantic < 0) | (semantic >= STUFF)).float()[None]
    return InstanceData(masks=masks, labels=ground_truth.labels, scores=scores), torch.cat([logits, 2 * other])


ARGS = dict(seed=0, images=None, train_images=12, classes=None)


def test_the_true_order_is_perfect_and_the_only_one(config, model, monkeypatch, capsys):
    monkeypatch.setattr(TOOL, 'outputs_of', perfect_outputs)
    stats, categories = TOOL.score_orders(config, model, Namespace(**ARGS))
    assert list(stats) == ['detection score', 'random', 'fixed by class', 'learned ranking', 'true order']
    things = {name: average(stat, categories, True)['pq'] for name, stat in stats.items()}
    stuff = {average(stat, categories, False)['pq'] for stat in stats.values()}
    assert things['true order'] == 1.0
    assert things['detection score'] < things['random'] < 0.99
    assert len(stuff) == 1  # with nothing left out the order does not touch stuff
    ids = {category['name']: category['id'] for category in categories}
    assert per_class(stats['fixed by class'], categories)[ids['tie']]['pq'] == 1.0
    assert 'tie' in capsys.readouterr().out
    table = TOOL.table_of(stats, categories, ['tie', 'ball'])
    assert [column.header for column in table.columns] == ['order', 'PQ', 'PQ_th', 'PQ_st', 'tie', 'ball']
    assert table.row_count == 5
    with pytest.raises(UserError, match='--classes sky'):
        TOOL.table_of(stats, categories, ['sky'])


def test_the_random_order_follows_the_seed(config, model, monkeypatch):
    monkeypatch.setattr(TOOL, 'outputs_of', perfect_outputs)
    runs = [TOOL.score_orders(config, model, Namespace(**ARGS | dict(seed=seed)))[0] for seed in (0, 0, 1)]
    values = [run['random'].iou_sum.tolist() for run in runs]
    assert values[0] == values[1] != values[2]
    assert runs[0]['true order'].iou_sum.tolist() == runs[2]['true order'].iou_sum.tolist()


def test_a_dataset_without_overlapping_masks_is_refused(config):
    dataset = dict(config.test_dataloader.dataset, inst_ann_file=None)
    with pytest.raises(UserError, match='inst_ann_file'):
        TOOL.annotations_of(dataset, None)


@pytest.mark.slow
def test_as_a_command(config, model, tmp_path):
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'model.pth')
    config.dump(tmp_path / 'config.py')
    command = [ROOT / 'tools/analysis_tools/fusion_orders.py', tmp_path / 'config.py', tmp_path / 'model.pth']
    done = subprocess.run(
        [sys.executable, *map(str, command), '--images', '2', '--classes', 'tie'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert 'learned ranking' in done.stdout and 'Order of classes' in done.stdout
