"""The hook that starts a training from a checkpoint with other classes."""

import json
from types import SimpleNamespace

import pytest
import torch
from fixtures.tiny_run import TinyRun, run_tool
from helpers.models import build_model, load_config
from mmengine.runner import BaseLoop

from mmpanoptic.engine.hooks import ClassTransferHook
from mmpanoptic.utils import UserError

NAMES = ('person', 'tie', 'car', 'tree', 'sign', 'ball', 'box')
LAYER = 'roi_head.mask_head.conv_logits.bias'


class Loop(BaseLoop):
    def __init__(self) -> None:
        pass

    def run(self) -> None:
        pass


@pytest.fixture(scope='module')
def model():
    return build_model(load_config('panet/panet_r18_fpn_shapes'))


def load(hook, model, checkpoint, train_loop=None, resume=False):
    """What the hook makes of a checkpoint."""
    runner = SimpleNamespace(
        _resume=resume,
        _train_loop=Loop() if train_loop is None else train_loop,
        _load_from='x.pth',
        model=model,
        train_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=NAMES))),
    )
    hook.after_load_checkpoint(runner, checkpoint)
    return checkpoint


def saved(model, names=NAMES, key='classes'):
    weights = {f'module.{name}': value.clone() for name, value in model.state_dict().items()}
    weights[f'module.{LAYER}'] = torch.arange(7.0)
    return dict(state_dict=weights, meta=dict(dataset_meta={key: names}), optimizer={})


@pytest.mark.parametrize('key', ['classes', 'CLASSES'])
def test_slices_follow_names(model, key):
    names = ('box', 'tie', 'car', 'tree', 'sign', 'globe', 'person')
    weights = load(ClassTransferHook(), model, saved(model, names, key))['state_dict']
    assert weights.keys() == model.state_dict().keys()
    assert weights[LAYER].tolist() == [6, 1, 2, 3, 4, model.state_dict()[LAYER][5], 0]
    weights = load(ClassTransferHook(dict(ball='globe')), model, saved(model, names, key))['state_dict']
    assert weights[LAYER].tolist() == [6, 1, 2, 3, 4, 5, 0]


def test_mapping_from_a_file_and_names_from_the_config(model, tmp_path):
    (tmp_path / 'mapping.json').write_text(json.dumps(dict(ball='globe')))
    names = ('box', 'tie', 'car', 'tree', 'sign', 'globe', 'person')
    hook = ClassTransferHook(str(tmp_path / 'mapping.json'), classes=names)
    bare = saved(model)['state_dict']
    assert load(hook, model, bare)['state_dict'][LAYER].tolist() == [6, 1, 2, 3, 4, 5, 0]


@pytest.mark.parametrize('kwargs', [dict(resume=True), dict(train_loop={})])
def test_nothing_in_a_test_or_when_a_training_goes_on(model, kwargs):
    checkpoint = saved(model, NAMES[::-1])
    assert load(ClassTransferHook(strict=True), model, dict(checkpoint), **kwargs) == checkpoint


def test_strict(model):
    assert load(ClassTransferHook(strict=True), model, saved(model))['state_dict'][LAYER].tolist() == [*range(7)]
    swapped = ('tie', 'person', *NAMES[2:])
    with pytest.raises(UserError, match=r"^x\.pth does not fit .*: class 0 is 'tie' in it and 'person' in the dataset"):
        load(ClassTransferHook(strict=True), model, saved(model, swapped))
    smaller = saved(model)
    smaller['state_dict'].pop(f'module.{LAYER}')
    with pytest.raises(UserError, match=rf'^x\.pth does not fit in everything: it has no {LAYER}: leave out --strict'):
        load(ClassTransferHook(strict=True), model, smaller)


def test_what_cannot_be_used_is_one_line(model):
    with pytest.raises(UserError, match=r'^x\.pth has no tensor of the model'):
        load(ClassTransferHook(), model, dict(state_dict=dict(a=torch.ones(1))))
    with pytest.raises(UserError, match=r'^x\.pth names no classes for `mapping`'):
        load(ClassTransferHook(dict(ball='globe')), model, dict(state_dict=saved(model)['state_dict']))
    with pytest.raises(UserError, match=r"no class 'bal': did you mean 'ball'"):
        load(ClassTransferHook(dict(bal='ball')), model, saved(model))


@pytest.mark.slow
def test_training_that_starts_from_other_classes(tiny_run: TinyRun, tmp_path):
    """By the tool: what was taken is printed, and --strict refuses."""
    content = torch.load(tiny_run.checkpoint, weights_only=False)
    meta = content['meta']['dataset_meta']
    for key in ('classes', 'thing_classes', 'stuff_classes'):
        meta[key] = tuple('globe' if name == 'ball' else 'heaven' if name == 'sky' else name for name in meta[key])
    torch.save(content, tmp_path / 'other.pth')
    options = ['--cfg-options', 'load_from=other.pth', 'train_cfg.max_epochs=1', 'val_cfg=None', 'val_dataloader=None']
    args = [tiny_run.config, '--work-dir', 'work', *options, 'val_evaluator=None']
    args.append('default_hooks.checkpoint.save_best=None')  # which needs a validation
    done = run_tool('train.py', *args, 'default_hooks.transfer.mapping.ball=globe', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = done.stdout + done.stderr
    assert 'moved class by class: ' in printed and 'ball <- globe' in printed and 'classes at random: sky' in printed
    assert 'size mismatch' not in printed and 'unexpected key' not in printed
    done = run_tool('train.py', '--strict', *args, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('error: other.pth does not fit in everything: class ')
