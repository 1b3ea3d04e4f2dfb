"""Five orders of the ground truth's own instances: the true one gives a perfect map."""

import copy
import json
import re
from argparse import Namespace

import numpy as np
import pytest
import torch
from fixtures.tiny_run import run_tool, tool_env
from helpers.evidence import evidence_of, instances_of
from helpers.repo import ROOT, load_tool
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.datasets.shapes.writer import write_dataset
from mmpanoptic.engine.configs import load_config
from mmpanoptic.evaluation.panoptic_quality import average, per_class
from mmpanoptic.models import EmbeddingFusion
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import StuffLogits
from mmpanoptic.utils import UserError

TOOL = load_tool('analysis_tools/fusion_orders')
THINGS, STUFF = 7, 6


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """OANet on Shapes of 96x128, nothing left out in fusion."""
    data = tmp_path_factory.mktemp('orders') / 'shapes'
    write_dataset(data, {'train': 12, 'val': 12}, (96, 128), seed=0, workers=1)
    config = load_config(str(ROOT / 'configs/oanet/oanet_r18_fpn_shapes.py'))
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


def perfect_evidence(model, sample):
    """The ground truth as what the fusion head gets, the hindmost most confident."""
    ground_truth = sample['data_samples'].gt_instances
    masks = ground_truth.masks.to_tensor(torch.bool, 'cpu')
    scores = torch.linspace(0.9, 0.6, len(masks))  # instances are listed from back to front
    semantic = sample['data_samples'].gt_sem_seg.sem_seg[0].long() - THINGS
    logits = torch.nn.functional.one_hot(semantic.clamp(0, STUFF - 1), STUFF).permute(2, 0, 1).float()
    other = ((semantic < 0) | (semantic >= STUFF)).float()[None]
    instances = instances_of(masks, ground_truth.labels.tolist(), scores.tolist())
    stuff = StuffLogits(torch.cat([logits, 2 * other]), 'stuff+other')
    return evidence_of(instances, stuff, input_size=sample['data_samples'].img_shape)


ARGS = dict(seed=0, images=None, train_images=12, classes=None)


def test_the_true_order_is_perfect_and_the_only_one(config, model, monkeypatch, capsys):
    monkeypatch.setattr(TOOL, 'evidence_of', perfect_evidence)
    stats, _, categories = TOOL.score_orders(config, model, Namespace(**ARGS))
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


def test_the_learned_order_is_that_of_the_ranking(config, model, monkeypatch, capsys):
    """One that puts ties in front of everything, and knows nothing else."""
    monkeypatch.setattr(TOOL, 'evidence_of', perfect_evidence)
    ranking = model.panoptic_fusion_head.ranking
    for parameter in ranking.parameters():
        torch.nn.init.zeros_(parameter)
    tie = 1
    ranking.branches[0][-1].bias.data[tie] = 5.0
    stats, _, categories = TOOL.score_orders(config, model, Namespace(**ARGS))
    ids = {category['name']: category['id'] for category in categories}
    ties = {name: per_class(stat, categories)[ids['tie']]['pq'] for name, stat in stats.items()}
    assert ties['learned ranking'] == 1.0 > ties['detection score']
    things = {name: average(stat, categories, True)['pq'] for name, stat in stats.items()}
    assert things['detection score'] < things['learned ranking'] < things['true order']


def test_overlaps_tell_what_an_order_lacks(config, model, monkeypatch):
    monkeypatch.setattr(TOOL, 'evidence_of', perfect_evidence)
    _, overlaps, categories = TOOL.score_orders(config, model, Namespace(**ARGS))
    names = [category['name'] for category in categories if category['isthing']]
    on_person = names.index('tie'), names.index('person')
    for right, every in overlaps.values():
        assert torch.equal(every, overlaps['true order'][0])  # overlaps are the same for all orders
        assert every[on_person] == every.sum(dim=1)[names.index('tie')] > 0  # ties are on persons alone
        assert (right <= every).all()
    assert overlaps['fixed by class'][0][on_person] == overlaps['true order'][0][on_person]
    assert overlaps['detection score'][0].sum() == 0  # perfect_evidence gives the hindmost the best score
    table = TOOL.table_of_overlaps(overlaps, names)
    number = int(overlaps['true order'][1][on_person])
    column = next(column for column in table.columns if column.header == f'tie on person: {number}')
    by_score, _, by_class, _, true = column.cells
    assert (by_score, by_class, true) == ('0.0', '100.0', '100.0')


def test_overlaps_of_one_class_are_told_apart():
    """Classes 0 and 1: 3 pixels of 1 on 1, of which the order has 2; 4 of 0 on 1, of which it has 1."""
    counted = torch.tensor([[[0, 1], [0, 2]], [[0, 4], [0, 3]]])
    table = TOOL.table_of_overlaps({'an order': counted}, ['a', 'b'])
    assert {column.header: list(column.cells) for column in table.columns} == {
        'order': ['an order'],
        'all overlaps: 7': ['42.9'],
        'of one class: 3': ['66.7'],
        'of two classes: 4': ['25.0'],
        'a on b: 4': ['25.0'],
        'b on b: 3': ['66.7'],
    }


def test_what_the_order_of_classes_contradicts():
    wins = torch.tensor([[0, 5, 0], [2, 0, 9], [1, 0, 0]])
    text = TOOL.contradictions([0, 1, 2], wins, ['a', 'b', 'c'])
    assert text.splitlines() == [
        'It contradicts 3 of 17 overlapping pairs of the training set', '  2 b in front of a', '  1 c in front of a'
    ]  # fmt: skip


def test_what_matches_no_object_has_no_true_place(model):
    """An IoU of one half is too little: the true order says nothing about it, and confidence decides."""

    def row(start, stop):
        mask = np.zeros((1, 12), np.uint8)
        mask[:, start:stop] = 1
        return mask

    annotation = dict(
        gt_ignore_flags=np.zeros(2, bool),
        gt_masks=BitmapMasks(np.stack([row(0, 6), row(4, 9)]), 1, 12),
        gt_bboxes_labels=np.array([0, 1]),
        gt_panoptic_map=np.where(row(4, 9), 2, row(0, 6)).astype(np.int32),
        segments_info=[dict(id=i + 1, label=i, is_thing=True, iscrowd=False) for i in range(2)],
    )

    def true_order(second):
        instances = instances_of([row(0, 6).astype(bool), second.astype(bool)], [0, 1], [0.9, 0.8])
        evidence = evidence_of(instances, StuffLogits(torch.zeros(STUFF, 1, 12), 'stuff'))
        wins = torch.zeros(THINGS, THINGS, dtype=torch.int64)
        orders = TOOL.orders_of(
            evidence, model.panoptic_fusion_head, list(range(THINGS)), wins, annotation, torch.Generator()
        )
        return orders.found['true order']

    assert true_order(row(5, 9)) == [1, 0]
    assert true_order(row(5, 12)) == [0, 1]


def test_the_random_order_follows_the_seed(config, model, monkeypatch):
    monkeypatch.setattr(TOOL, 'evidence_of', perfect_evidence)
    runs = [TOOL.score_orders(config, model, Namespace(**ARGS | dict(seed=seed)))[0] for seed in (0, 0, 1)]
    values = [run['random'].iou_sum.tolist() for run in runs]
    assert values[0] == values[1] != values[2]
    assert runs[0]['true order'].iou_sum.tolist() == runs[2]['true order'].iou_sum.tolist()


def without_masks(dataset):
    return dict(dataset, inst_ann_file=None)


@pytest.mark.parametrize('loader', ['train_dataloader', 'test_dataloader'])
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (without_masks, r'\(annotations/panoptic_\w+\.json\) has no inst_ann_file.*: set it'),
    ],
)
def test_datasets_without_a_true_order_are_refused(config, model, loader, change, message):
    config = copy.deepcopy(config)
    config[loader].dataset = change(config[loader].dataset)
    name = rf'{loader}\.dataset'
    with pytest.raises(UserError, match=rf'oanet_r18_fpn_shapes\.py: {name} {message.format(name=name)}'):
        TOOL.score_orders(config, model, Namespace(**ARGS))


@pytest.mark.parametrize('loader', ['train_dataloader', 'test_dataloader'])
def test_a_config_without_a_dataset_is_refused(config, model, loader):
    for nothing in (None, {}):
        config = copy.deepcopy(config)
        config[loader] = nothing
        with pytest.raises(UserError, match=rf'the config has no {loader}\.dataset: set it'):
            TOOL.score_orders(config, model, Namespace(**ARGS))


@pytest.fixture
def error_of(config, tmp_path, monkeypatch, capsys):
    """What the command says on stderr, given the model that it loads and flags."""
    config.dump(tmp_path / 'config.py')
    (tmp_path / 'model.pth').touch()

    def run(model, *flags):
        monkeypatch.setattr(TOOL, 'load_model', lambda *_: (model, {}))
        monkeypatch.setattr('sys.argv', ['fusion_orders.py', f'{tmp_path}/config.py', f'{tmp_path}/model.pth', *flags])
        with pytest.raises(SystemExit):
            TOOL.cli.run(TOOL.main)
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize('number', ['0', '-3'])
@pytest.mark.parametrize('flag', ['--images', '--train-images'])
def test_numbers_that_make_no_sense(error_of, flag, number):
    assert error_of(None, flag, number) == f'error: {flag} {number}: at least one image is needed\n'


def test_models_without_an_order_are_refused(error_of):
    detector, by_query = torch.nn.Identity(), torch.nn.Identity()
    by_query.panoptic_fusion_head = EmbeddingFusion()
    for model, message in ((detector, 'has no panoptic_fusion_head.*configs/oanet'), (by_query, 'needs no order')):
        assert re.fullmatch(rf'error: \S*config\.py: Identity .*{message}\n', error_of(model))


@pytest.mark.slow
def test_as_a_command(config, model, tmp_path):
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'model.pth')
    config.dump(tmp_path / 'config.py')
    done = run_tool(
        'analysis_tools/fusion_orders.py',
        *('config.py', 'model.pth', '--images', '2', '--classes', 'tie', '--overlaps'),
        *('--out', 'orders.json', '--label', 'a '),
        cwd=tmp_path,
        env=tool_env(COLUMNS='200'),
    )
    assert done.returncode == 0, done.stderr
    assert 'learned ranking' in done.stdout and 'Order of classes' in done.stdout
    scores = json.loads((tmp_path / 'orders.json').read_text())
    assert 'all overlaps: ' in done.stdout and 'of one class: ' in done.stdout
    assert set(scores) >= {'a detection score', 'a learned ranking', 'a true order'}
    for name, row in scores.items():
        shown = [f'{row[f"panoptic/{key}"]:.2f}' for key in ('PQ', 'PQ_th', 'PQ_st')]
        assert re.search(rf'{name[2:]} *│ *{" *│ *".join(shown)} *│', done.stdout)
