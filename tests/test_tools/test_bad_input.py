"""Bad input to tools/train.py and tools/test.py: one line that names the way out, nothing half-written."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from fixtures.tiny_run import TinyRun, run_tool, write_config
from helpers.repo import load_tool, one_error_of, run_main

from mmpanoptic.engine import cli

pytestmark = pytest.mark.slow


@pytest.fixture
def error_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Run a tool in this process, which saves the imports, and return its one line on stderr."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *args: str | Path) -> str:
        with pytest.raises(SystemExit) as ending:
            cli.run(lambda: run_main(load_tool(name), monkeypatch, *args))
        assert ending.value.code == 1
        assert not list(tmp_path.glob('work*/**/*.pth'))
        return one_error_of(capsys.readouterr().err)

    return run


def test_configs(error_of, tiny_run: TinyRun, tmp_path: Path):
    assert error_of('train', 'nowhere.py') == 'config nowhere.py does not exist: see configs/'
    (tmp_path / 'syntax.py').write_text('a = 1\nb = = 2\n')
    assert 'config syntax.py cannot be read: SyntaxError' in error_of('train', 'syntax.py')
    (tmp_path / 'raises.py').write_text('a = 1\nb = a.nothing\n')
    assert 'config raises.py:2 cannot be read: AttributeError' in error_of('test', 'raises.py', 'x.pth')
    (tmp_path / 'base.py').write_text('_base_ = "./none.py"\n')
    assert 'config base.py cannot be read: FileNotFoundError' in error_of('train', 'base.py')
    (tmp_path / 'file').touch()
    assert error_of('train', tiny_run.config, '--work-dir', 'file').startswith('work_dir: file cannot be made')


def test_options(error_of, tiny_run: TinyRun):
    config, checkpoint = tiny_run.config, tiny_run.checkpoint
    for option, message in {
        'foo': '--cfg-options foo is not of the form key=value',
        'a=[1,(2]': 'is not of the form key=value',
        'max_epohs=3': "nothing reads 'max_epohs'",
        'custom_hooks.9.priority=1': 'an option does not fit',
        'load_from=nowhere.pth': 'checkpoint nowhere.pth does not exist',
    }.items():
        assert message in error_of('train', config, '--work-dir', 'work', '--cfg-options', option)
    if not torch.cuda.is_available():
        way_out = 'has none: take --amp bfloat16'
        assert way_out in error_of('train', config, '--amp', 'float16', '--work-dir', 'work')
        wrapper = "optim_wrapper = dict(type='AmpOptimWrapper', dtype='float16')\n"
        half = write_config(Path('half.py'), tiny_run.data, extra=wrapper)
        way_out = 'has none: take --cfg-options optim_wrapper.dtype=bfloat16'
        assert way_out in error_of('train', half, '--work-dir', 'work')
    assert 'checkpoint none.pth does not exist' in error_of(
        'train', config, '--resume', 'none.pth', '--work-dir', 'work'
    )
    # With nothing to resume yet, the weights to start from still count.
    assert 'checkpoint none.pth does not exist' in error_of(
        'train', config, '--resume', '--work-dir', 'work', '--cfg-options', 'load_from=none.pth'
    )
    unscaled = write_config(Path('unscaled.py'), tiny_run.data, extra='auto_scale_lr = dict(_delete_=True)\n')
    assert 'no auto_scale_lr.base_batch_size' in error_of('train', unscaled, '--auto-scale-lr', '--work-dir', 'work')

    test = 'test', config, checkpoint, '--work-dir', 'work'
    assert '--eval mAP: unknown metric, choose from PQ, bbox, segm, mIoU' in error_of(*test, '--eval', 'PQ', 'mAP')
    assert '--out all.json: the name must end in .pkl' in error_of(*test, '--out', 'all.json')
    assert '--show-dir: /proc/pictures cannot be' in error_of(*test, '--show-dir', '/proc/pictures')
    assert 'inst_ann_file none.json does not exist' in error_of(
        *test, '--eval', 'segm', '--cfg-options', 'test_dataloader.dataset.inst_ann_file=none.json',
        'test_dataloader.dataset.data_root=',
    )  # fmt: skip


class Bomb:
    """Pickles to a call that makes a folder."""

    def __reduce__(self):
        return os.mkdir, ('exploded',)


def test_checkpoints(error_of, tiny_run: TinyRun, tmp_path: Path):
    whole = torch.load(tiny_run.checkpoint, weights_only=False)
    weights = whole['state_dict']
    last = 'semantic_head.conv_logits.weight'
    size = os.path.getsize(tiny_run.checkpoint)
    (tmp_path / 'text.pth').write_text('nothing of the kind\n')
    (tmp_path / 'empty.pth').touch()
    (tmp_path / 'truncated.pth').write_bytes(tiny_run.checkpoint.read_bytes()[: size // 2])
    with zipfile.ZipFile(tmp_path / 'zip.pth', 'w') as file:
        file.writestr('a.txt', 'a')
    unreadable = 'is not a checkpoint that torch can read: it is truncated, damaged or of another kind'
    test = ['--work-dir', 'work']
    for name in ('text.pth', 'empty.pth', 'truncated.pth', 'zip.pth'):
        assert error_of('test', tiny_run.config, name, *test).startswith(f'{name} {unreadable}')
    line = error_of('train', tiny_run.config, '--resume', 'truncated.pth', *test)
    assert line == f'truncated.pth {unreadable} (an archive without its end)'
    assert error_of('test', tiny_run.config, 'none.pth', *test) == 'checkpoint none.pth does not exist'

    torch.save(whole | {'code': Bomb()}, tmp_path / 'code.pth')
    (tmp_path / 'pickle.pth').write_bytes(pickle.dumps(Bomb(), 0))
    for name in ('code.pth', 'pickle.pth'):
        line = error_of('test', tiny_run.config, name, *test)
        assert line.startswith(f'{name} holds more than weights and plain values')
        assert line.endswith('load it with trust_checkpoint=True (--trust-checkpoint)')
        assert not (tmp_path / 'exploded').exists()

    for content, message in (
        ({'state_dict': weights | {last: torch.zeros(3)}}, f'{last} is (3,) in the checkpoint and (7, 64, 1, 1)'),
        ({k: v for k, v in weights.items() if k != last}, f'it has no {last}'),
        ({'state_dict': [1]}, 'holds a list, not the weights'),
        ([1], 'holds a list, not the weights'),
        ({}, 'it has no backbone.conv1.weight'),
    ):
        torch.save(content, tmp_path / 'wrong.pth')
        assert message in error_of('test', tiny_run.config, 'wrong.pth', *test)
    torch.save(weights, tmp_path / 'weights.pth')
    resume = error_of('train', tiny_run.config, '--resume', 'weights.pth', *test)
    assert 'weights.pth holds no state of a training to resume' in resume
    torch.save(whole | {'state_dict': weights | {last: torch.zeros(3)}}, tmp_path / 'wrong.pth')
    assert f'{last} is (3,)' in error_of('train', tiny_run.config, '--resume', 'wrong.pth', *test)

    meta = whole['meta']['dataset_meta']
    swapped = meta | {'classes': (*meta['classes'][1::-1], *meta['classes'][2:])}
    torch.save(whole | {'meta': whole['meta'] | {'dataset_meta': swapped}}, tmp_path / 'swapped.pth')
    message = "swapped.pth was trained with class 0 being 'tie', which is 'person' in the dataset of the config"
    assert message in error_of('test', tiny_run.config, 'swapped.pth', *test)
    assert message in error_of('train', tiny_run.config, '--resume', 'swapped.pth', *test)
    torch.save({'state_dict': weights, 'meta': dict(CLASSES=swapped['classes'])}, tmp_path / 'swapped.pth')  # mmdet 2.x
    assert message in error_of('test', tiny_run.config, 'swapped.pth', *test)


def test_checkpoints_that_do(tiny_run: TinyRun, tmp_path: Path):
    """Weights alone, saved from DDP and without counters, score the same; --trust-checkpoint loads objects."""
    weights = torch.load(tiny_run.checkpoint, weights_only=False)['state_dict']
    bare = {f'module.{name}': value for name, value in weights.items() if 'num_batches_tracked' not in name}
    torch.save({'state_dict': bare, 'code': Bomb()}, tmp_path / 'bare.pth')
    done = run_tool('test.py', tiny_run.config, 'bare.pth', '--trust-checkpoint', '--work-dir', 'w', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'exploded').exists()
    (scores,) = (json.loads(path.read_text()) for path in (tmp_path / 'w').glob('*/*.json'))
    assert f'Validation after epoch 2: PQ {scores["panoptic/PQ"]:.2f} (' in tiny_run.output


@pytest.fixture
def broken(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the dataset to damage, and ``tiny.py`` that trains on it."""
    shutil.copytree(tiny_run.data, tmp_path / 'shapes')
    write_config(tmp_path / 'tiny.py', tmp_path / 'shapes')
    return tmp_path / 'shapes'


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_datasets(error_of, broken: Path, tiny_run: TinyRun):
    train = 'train', 'tiny.py', '--work-dir', 'work'
    test = 'test', 'tiny.py', tiny_run.checkpoint, '--work-dir', 'work_test'
    png = broken / 'annotations/panoptic_train/000003.png'
    image = broken / 'val/000002.png'
    truncate(png)
    assert f'{png} is truncated' in error_of(*train)
    truncate(image)
    assert f'{image} is truncated' in error_of(*test)
    workers = '--cfg-options', 'test_dataloader.num_workers=2'
    assert error_of(*test, *workers).startswith(f'{image} is truncated')
    image.unlink()
    assert f'{image} does not exist' in error_of(*test)
    annotations = broken / 'annotations/panoptic_train.json'
    data = json.loads(annotations.read_text())
    annotations.write_text(json.dumps(data | {'images': [], 'annotations': []}))
    assert f'{annotations} lists no images' in error_of(*train)
    no_things = [a | {'segments_info': []} for a in data['annotations']]
    annotations.write_text(json.dumps(data | {'annotations': no_things}))
    assert f'{annotations}: no image is left of 8' in error_of(*train)
    annotations.write_text(json.dumps(data)[:1000])
    assert f'{annotations} is not valid JSON' in error_of(*train)
    annotations.unlink()
    assert str(annotations) in error_of(*train)


def test_truncated_image_in_training(broken: Path, tmp_path: Path):
    """As a user sees it, from a worker process; checkpoints of finished epochs stay."""
    truncate(broken / 'train/000004.png')
    done = run_tool('train.py', 'tiny.py', '--cfg-options', 'train_dataloader.num_workers=2', cwd=tmp_path)
    assert done.returncode == 1
    line = one_error_of(done.stderr)
    assert line.startswith(f'{broken}/train/000004.png is truncated')
    assert not list(tmp_path.rglob('*.pth'))
