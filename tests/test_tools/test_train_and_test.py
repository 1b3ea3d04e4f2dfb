"""tools/train.py and tools/test.py as a user calls them: what they write and print, and their options."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from fixtures.tiny_run import EPOCHS, ITERS_PER_EPOCH, NUM_IMAGES, TinyRun, run_tool, tool_env
from helpers.repo import ROOT, load_tool, run_main
from mmengine.config import Config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmpanoptic.evaluation.panoptic_files import evaluate_files
from mmpanoptic.utils import UserError

pytestmark = pytest.mark.slow


def log_lines(work_dir: Path) -> list[dict]:
    """What the newest run logged as JSON."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in files[-1].read_text().splitlines()]


def test_training_logs_and_files(tiny_run: TinyRun):
    work_dir = tiny_run.work_dir
    regular = {f'epoch_{i + 1}.pth' for i in range(EPOCHS)}
    best = f'best_panoptic_PQ_epoch_{EPOCHS}.pth'
    assert {path.name for path in work_dir.glob('*.pth')} == regular | {best, 'last.pth'}
    assert (work_dir / 'last.pth').readlink() == Path(f'epoch_{EPOCHS}.pth')
    assert len(list(work_dir.glob('*/vis_data/events.out.tfevents*'))) == 1
    lines = log_lines(work_dir)
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) == EPOCHS * ITERS_PER_EPOCH
    assert losses[-1] < losses[0]
    assert 'panoptic/PQ' in lines[-1]

    terminal = tiny_run.output
    assert len(re.findall(r'Epoch\(train\)', terminal)) == len(losses)
    assert f'PQ {lines[-1]["panoptic/PQ"]:.2f} (things ' in terminal
    log = next(work_dir.glob('*/*.log')).read_text()
    for noise in ('System environment', 'optim_wrapper = dict', 'Hooks will be executed', 'panoptic/PQ: ', '│ person'):
        assert noise in log and noise not in terminal
    assert 'Warning' not in terminal
    assert len(terminal.splitlines()) < 60


# Every line that a user may see in a training and a test. What is not here helps nobody: keep it from the terminal.
STAMP = r'\d\d/\d\d \d\d:\d\d:\d\d - mmengine - INFO - '
SEEN = re.compile(
    rf'{STAMP}(Environment, config and hooks are written to \S+'
    r'|Checkpoints will be saved to \S+'
    r'|Load checkpoint from \S+'
    r'|Epoch\((train|val|test)\) .*'
    r'|Saving checkpoint at \d+ epochs'
    r'|Validation after epoch \d+: PQ .*'
    r'|The best checkpoint with [\d.]+ panoptic/PQ at \d+ epoch is saved to \S+'
    r'|Predictions written to \S+'
    r'|Results written to \S+ and \S+'
    r')?'  # a table begins on the next line
    r'|[┏┃┡│├└].*'
    r'|Counting ━+ \d+/\d+ .*|Report written to \S+/report.html'
)


def unwanted(output: str) -> list[str]:
    return [line for line in output.splitlines() if not SEEN.fullmatch(line)]


def test_a_training_says_what_a_user_reads(tiny_run: TinyRun):
    assert unwanted(tiny_run.output) == []
    assert all(len(line) < 400 for line in tiny_run.output.splitlines())


def test_the_check_of_lines():
    """The check itself."""
    stamp = '11/27 17:33:57 - mmengine - INFO - '
    noise = [
        'Could not import OneDL. Skipping OneDL datasets.', f'{stamp}paramwise_options -- a:lr=0.02', '',
        f'{stamp}Exp name: tiny', 'Done (t=0.00s)', '  return _VF.meshgrid(tensors, **kwargs)',
        f'{stamp}bbox_mAP_copypaste: 0.000', 'Loads checkpoint by checked backend from path: a.pth',
        '11/27 17:33:57 - mmengine - WARNING - The prefix is not set in metric class PredictionDump.',
    ]  # fmt: skip
    assert unwanted('\n'.join([*noise, f'{stamp}Epoch(train) [1][1/4]  lr: 1', '│ PQ │'])) == noise


def test_all_metrics_pictures_and_results(tiny_run: TinyRun, tmp_path: Path):
    done = run_tool(
        'test.py', tiny_run.config, tiny_run.checkpoint, '--eval', 'PQ', 'bbox', 'segm', 'miou',
        '--show-dir', 'new/pictures', '--out', 'new/results/all.pkl', '--report', 'new/report', '--work-dir', 'work',
        '--cfg-options', f'test_evaluator.outfile_prefix={tmp_path}/files/test',
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == '' and unwanted(done.stdout) == []
    assert done.stdout.count('│ PQ ') == done.stdout.count('│ mask AP ') == 1, 'one table'
    scores = json.loads(next((tmp_path / 'work').glob('*/*.json')).read_text())
    assert {'panoptic/PQ', 'panoptic/PQ_th', 'coco/bbox_mAP', 'coco/segm_mAP_50', 'semantic/mIoU'} <= scores.keys()

    assert len(list((tmp_path / 'new/pictures').glob('*.png'))) == NUM_IMAGES['val']
    results = torch.load(tmp_path / 'new/results/all.pkl', weights_only=True)
    assert len(results) == NUM_IMAGES['val']
    assert {'pred_panoptic_seg', 'pred_instances', 'img_path'} <= results[0].keys()

    annotations = tiny_run.data / 'annotations'
    files = tmp_path / 'files'
    official = evaluate_files(
        annotations / 'panoptic_val.json',
        annotations / 'panoptic_val',
        files / 'test.panoptic.json',
        files / 'test.panoptic',
    )
    assert scores['panoptic/PQ'] == 100 * official['All']['pq'] > 0
    report = tmp_path / 'new/report'
    text = (report / 'report.html').read_text(encoding='utf-8')
    page = json.loads(re.search(r'<script[^>]* id="contents"[^>]*>(.*?)</script>', text, re.DOTALL)[1])
    assert page['runs'][0]['scores']['All']['pq'] == scores['panoptic/PQ']
    assert page['names'] == [tiny_run.config.stem] and len(page['images']) == NUM_IMAGES['val']
    written = [json.loads(path.read_text()) for path in (files / 'test.panoptic.json', report / 'panoptic.json')]
    assert written[0]['annotations'] == written[1]['annotations']

    (events,) = (tmp_path / 'work').glob('*/vis_data/events.out.tfevents*')
    board = EventAccumulator(str(events)).Reload()
    recorded = {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()['scalars']}
    assert {f'test/panoptic/{name}{group}' for name in ('PQ', 'SQ', 'RQ') for group in ('', '_th', '_st')} < {*recorded}
    assert recorded['test/panoptic/PQ'] == [(EPOCHS, pytest.approx(scores['panoptic/PQ'], rel=1e-6))]

    trained = log_lines(tiny_run.work_dir)[-1]
    assert all(scores[key] == value for key, value in trained.items() if key.startswith('panoptic/'))


def test_a_report_needs_plotly_which_is_said_at_once(tiny_config: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'plotly.offline', None)
    (tmp_path / 'a.pth').touch()
    with pytest.raises(UserError, match='pip install plotly'):
        run_main(
            load_tool('test'), monkeypatch, tiny_config, tmp_path / 'a.pth', '--report', tmp_path / 'report',
            '--work-dir', tmp_path / 'work',
        )  # fmt: skip
    assert not (tmp_path / 'work').exists()


def test_options_of_training(tiny_run: TinyRun, tmp_path: Path):
    """--cfg-options, --auto-scale-lr, SyncBN without a GPU, and starting from weights of another number of classes."""
    weights = torch.load(tiny_run.checkpoint, weights_only=False)['state_dict']
    weights['roi_head.bbox_head.fc_cls.weight'] = torch.zeros(4, 4)
    torch.save(weights, tmp_path / 'other.pth')
    done = run_tool(
        'train.py', tiny_run.config, '--work-dir', 'work', '--auto-scale-lr', '--cfg-options',
        'auto_scale_lr.base_batch_size=1', 'train_cfg.max_epochs=1', 'val_cfg=None', 'val_dataloader=None',
        'val_evaluator=None', 'model.backbone.norm_cfg.type=SyncBN', 'load_from=other.pth', 'param_scheduler=None',
        'train_dataloader.num_workers=1', 'train_dataloader.batch_size=4', 'train_dataloader.persistent_workers=True',
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = log_lines(tmp_path / 'work')
    assert [line['lr'] for line in lines if 'lr' in line] == pytest.approx([4 * 1e-3] * 2)
    assert re.search(r'left as initialised .*: .*roi_head\.bbox_head\.fc_cls', done.stdout)
    state = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)
    assert state['meta']['iter'] == 2
    assert not torch.equal(state['state_dict']['backbone.conv1.weight'], weights['backbone.conv1.weight'])


FAKE_SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$@" > srun_arguments
while [[ $1 == -* ]]; do [[ $1 == -p ]] && shift; shift; done
exec "$@"
"""


@pytest.fixture
def slurm_env(tmp_path: Path) -> dict[str, str]:
    """An environment whose srun notes its arguments and runs the command here."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    (folder / 'srun').write_text(FAKE_SRUN)
    (folder / 'srun').chmod(0o755)
    env = tool_env(GPUS='4', GPUS_PER_NODE='2', CPUS_PER_TASK='3', SRUN_ARGS='--quotatype=spot --exclusive')
    env['PATH'] = f'{folder}:{env["PATH"]}'
    return env


def test_slurm_scripts(tiny_run: TinyRun, slurm_env: dict[str, str], tmp_path: Path):
    """The scripts ask for what they are told to and pass the rest on; a work dir may have a space in it."""
    shutil.copy(tiny_run.checkpoint, tmp_path / 'a b.pth')
    test = run_tool(
        'slurm_test.sh', 'part', 'job', tiny_run.config, 'a b.pth', '--launcher', 'none', '--eval', 'PQ',
        '--work-dir', 'w', cwd=tmp_path, env=slurm_env,
    )  # fmt: skip
    assert test.returncode == 0, test.stderr
    assert '│ PQ ' in test.stdout
    arguments = (tmp_path / 'srun_arguments').read_text().splitlines()
    assert arguments[:9] == [
        '-p', 'part', '--job-name=job', '--gres=gpu:2', '--ntasks=4', '--ntasks-per-node=2', '--cpus-per-task=3',
        '--kill-on-bad-exit=1', '--quotatype=spot',
    ]  # fmt: skip
    train = run_tool('slurm_train.sh', 'part', 'job', tiny_run.config, 'a dir', cwd=tmp_path, env=slurm_env)
    assert train.returncode == 1
    assert train.stderr == 'error: launcher slurm needs GPUs: on CPUs take launcher pytorch\n'
    arguments = (tmp_path / 'srun_arguments').read_text().splitlines()
    assert arguments[-5:] == [
        '-u',
        str(ROOT / 'tools/train.py'),
        str(tiny_run.config),
        '--work-dir=a dir',
        '--launcher=slurm',
    ]


def test_mixed_precision_of_a_config_can_be_switched_off_and_is_not_changed_by_the_option(monkeypatch):
    choose_precision = load_tool('train').choose_precision
    off = Config(dict(optim_wrapper=dict(type='OptimWrapper', loss_scale=512.0)))
    choose_precision(off, amp=None)
    assert off.optim_wrapper.to_dict() == dict(type='OptimWrapper')
    default = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD'))))
    choose_precision(default, amp=None)
    assert default.optim_wrapper.to_dict() == dict(optimizer=dict(type='SGD'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    half = Config(dict(optim_wrapper=dict(type='AmpOptimWrapper', loss_scale=512.0)))
    choose_precision(half, amp='float16')
    assert half.optim_wrapper.loss_scale == 512.0
    plain = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    choose_precision(plain, amp='float16')
    assert plain.optim_wrapper.to_dict() == dict(type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16')
