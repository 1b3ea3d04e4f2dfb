"""The hook that says when the ranking module learns nothing, and when that is."""

import logging
from types import SimpleNamespace

import pytest
import torch
from helpers.models import load_config
from mmengine.registry import init_default_scope

from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.datasets.shapes.writer import write_dataset
from mmpanoptic.engine.hooks import RankingConflictHook
from mmpanoptic.registry import MODELS


@pytest.fixture(scope='module')
def shapes_datasets(tmp_path_factory):
    """Shapes with and without instances that overlap."""
    init_default_scope('mmpanoptic')
    out = tmp_path_factory.mktemp('ranking') / 'shapes'
    write_dataset(out, {'train': 8, 'val': 1}, (96, 128), seed=0, workers=1)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations'), dict(type='PackPanopticInputs')]
    return [
        CocoPanopticDataset(
            data_root=str(out),
            ann_file='annotations/panoptic_train.json',
            inst_ann_file=inst_ann_file,
            data_prefix=dict(img='train/'),
            pipeline=pipeline,
        )
        for inst_ann_file in ('annotations/instances_train.json', None)
    ]


def test_only_an_instances_json_gives_conflicts(shapes_datasets):
    """Masks that are cut from the panoptic PNGs never overlap, so the ranking module would silently learn nothing."""
    head = MODELS.build(load_config('oanet/oanet_r18_fpn_shapes').model.panoptic_fusion_head)
    overlapping, cut = (
        head.loss([dataset[i]['data_samples'] for i in range(len(dataset))], None) for dataset in shapes_datasets
    )
    assert overlapping['conflict_pixels'] > 0 and overlapping['loss_ranking'] > 0
    assert cut['conflict_pixels'] == 0 and cut['loss_ranking'] == 0


def run_hook(hook, dataset, pixels, iterations, train_input='gt', conflict='class'):
    model = torch.nn.Linear(1, 1)
    model.panoptic_fusion_head = SimpleNamespace(train_input=train_input, conflict=conflict)
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset), model=model)
    for index in range(iterations):
        hook.after_train_iter(runner, index, outputs=dict(loss=1.0, conflict_pixels=torch.tensor(float(pixels))))
    return runner


def test_hook_names_inst_ann_file_once(shapes_datasets, monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmpanoptic.engine.hooks.conflict_hook.print_log', lambda text, level, **_: said.append((text, level))
    )
    overlapping, cut = shapes_datasets
    run_hook(RankingConflictHook(), cut, 0, 99)
    run_hook(RankingConflictHook(iterations=3), cut, 5, 10)
    RankingConflictHook(1).after_train_iter(None, 0, outputs=dict(loss=1.0))  # no ranking module
    run_hook(RankingConflictHook(), cut, 0, 300, train_input='pred')
    assert not said
    with monkeypatch.context() as elsewhere:  # not in the first process, and not where another's batches count
        elsewhere.setattr('mmpanoptic.engine.hooks.conflict_hook.is_main_process', lambda: False)
        run_hook(RankingConflictHook(), cut, 0, 300)
        elsewhere.undo()
        elsewhere.setattr('mmpanoptic.engine.hooks.conflict_hook.all_reduce', lambda conflicts: conflicts.add_(7))
        run_hook(RankingConflictHook(), cut, 0, 300)
    assert not said
    run_hook(RankingConflictHook(), cut, 0, 300)
    run_hook(RankingConflictHook(), overlapping, 0, 300)
    assert len(said) == 2 and all(level == logging.ERROR for _, level in said)
    assert 'set inst_ann_file' in said[0][0] and 'panoptic_train.json' in said[0][0]
    assert 'instances_train.json' in said[1][0] and 'inst_ann_file' in said[1][0]
    run_hook(RankingConflictHook(), overlapping, 0, 300, conflict='instance')
    assert 'is in instances of two classes, so' in said[1][0]
    assert 'is in two instances, so' in said[2][0]
    assert len(said) == 3


def test_hook_waits_for_the_end_where_predicted_masks_are_learned_from(shapes_datasets, monkeypatch):
    said = []
    monkeypatch.setattr('mmpanoptic.engine.hooks.conflict_hook.print_log', lambda text, **_: said.append(text))
    for pixels, train_input in ((3, 'pred'), (3, 'gt')):
        hook = RankingConflictHook()
        hook.after_train(run_hook(hook, shapes_datasets[0], pixels, 150, train_input))
    RankingConflictHook().after_train(None)  # no ranking module
    assert not said
    hook = RankingConflictHook()
    hook.after_train(run_hook(hook, shapes_datasets[0], 0, 150, 'pred'))
    (text,) = said
    assert 'no pixel of 150 batches is in predicted instances of two classes' in text and "train_input='gt'" in text
