"""What tools/test.py --out writes: read again, scored as it was, drawn, converted and fused; and nothing in it runs."""

import json
import os
import pickle
import re

import pytest
import torch
from fixtures.tiny_run import NUM_IMAGES, TinyRun, run_tool, write_config
from helpers.repo import load_tool, run_main
from mmengine.config import Config

from mmpanoptic.apis import load_model
from mmpanoptic.datasets.shapes.categories import CATEGORIES
from mmpanoptic.engine.results import read_results
from mmpanoptic.evaluation.panoptic_files import evaluate_files
from mmpanoptic.formats.panoptic_json import dataset_meta, parse_categories
from mmpanoptic.utils import UserError

TOOL = load_tool('analysis_tools/results')
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def tested(tiny_run: TinyRun, tmp_path_factory):
    """A folder with a config whose thresholds let something through, results.pkl with evidence, and its scores."""
    folder = tmp_path_factory.mktemp('tested')
    extra = 'model = dict(test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=8)), panoptic_fusion_head=dict('
    config = write_config(folder / 'tiny.py', tiny_run.data, extra=f'{extra}score_thr=0.0, stuff_area_limit=20))\n')
    done = run_tool(
        'test.py', config, tiny_run.checkpoint, '--eval', 'PQ', 'segm', 'mIoU', '--out', 'results.pkl', '--evidence',
        '--work-dir', 'work', '--classwise', cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == '', done.stderr
    return folder, json.loads(next(folder.glob('work/*/*.json')).read_text()), done.stdout


def tables(text: str) -> str:
    return text[text.index('┏') :]


def test_scores_are_those_of_the_test(tested, monkeypatch, capsys):
    folder, _, printed = tested
    results = folder / 'results.pkl'
    run_main(TOOL, monkeypatch, folder / 'tiny.py', results, '--eval', 'PQ', 'segm', 'mIoU', '--classwise')
    assert tables(capsys.readouterr().out) == tables(printed)


def test_pictures_and_coco_files(tested, tiny_run: TinyRun, tmp_path, monkeypatch, capsys):
    folder, scores, _ = tested
    out = ['--show-dir', tmp_path / 'pictures', '--coco', tmp_path / 'coco/mine']
    run_main(TOOL, monkeypatch, folder / 'tiny.py', folder / 'results.pkl', *out)
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == NUM_IMAGES['val']
    annotations = tiny_run.data / 'annotations'
    truth = annotations / 'panoptic_val.json', annotations / 'panoptic_val'
    found = evaluate_files(*truth, tmp_path / 'coco/mine.panoptic.json', tmp_path / 'coco/mine.panoptic')
    assert 100 * found['All']['pq'] == scores['panoptic/PQ'] > 0


def test_fused_again(tested, monkeypatch, capsys):
    """With the same thresholds to the same scores; with others, to others."""
    folder, _, printed = tested
    arguments = folder / 'tiny.py', folder / 'results.pkl', '--eval', 'PQ', 'segm', 'mIoU', '--classwise', '--fuse'
    run_main(TOOL, monkeypatch, *arguments)
    assert tables(capsys.readouterr().out) == tables(printed)
    run_main(TOOL, monkeypatch, *arguments, '--cfg-options', 'model.panoptic_fusion_head.stuff_area_limit=4000')
    assert tables(capsys.readouterr().out) != tables(printed)


@pytest.mark.parametrize(('system', 'has_weights'), [('oanet', True), ('ciae', False)])
def test_heads_of_other_systems_fuse_again(system, has_weights, tiny_shapes, tmp_path, monkeypatch, capsys):
    """The fusion of OANet has weights; that of CIAE takes embeddings instead of masks."""
    monkeypatch.chdir(tmp_path)
    base = f'{system}/{system}_r18_fpn_shapes.py'
    extra = 'model = dict(panoptic_fusion_head=dict(score_thr=0.0, stuff_area_limit=20))\n'
    config = write_config(tmp_path / 'tiny.py', tiny_shapes, extra=extra, base=base)
    torch.manual_seed(0)
    model, _ = load_model(Config.fromfile(config), device='cpu')
    meta = dict(dataset_meta=dataset_meta(parse_categories(list(CATEGORIES), 'categories')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), 'tiny.pth')
    test = load_tool('test')
    run_main(test, monkeypatch, config, 'tiny.pth', '--eval', 'PQ', '--out', 'results.pkl', '--evidence')
    printed = tables(capsys.readouterr().out)
    again = [config, 'results.pkl', '--eval', 'PQ', '--fuse']
    run_main(TOOL, monkeypatch, *again, *(['--checkpoint', 'tiny.pth'] if has_weights else []))
    assert tables(capsys.readouterr().out) == printed
    false_positives = [int(number) for number in re.findall(r'│ +\d+ │ +(\d+) │ +\d+ │\n', printed)]
    assert sum(false_positives) > 10, 'there is nothing to compare'
    if has_weights:
        with pytest.raises(UserError, match='RankingFusion has weights'):
            run_main(TOOL, monkeypatch, *again)


def test_errors(tested, tmp_path, monkeypatch):
    folder, *_ = tested
    config, results = folder / 'tiny.py', read_results(str(folder / 'results.pkl'))

    def line(*args) -> str:
        with pytest.raises(UserError) as caught:
            run_main(TOOL, monkeypatch, config, *args)
        return str(caught.value)

    assert line(folder / 'results.pkl') == 'nothing to do: give --eval, --show-dir or --coco'
    torch.save(results[1:], tmp_path / 'fewer.pkl')
    assert 'fewer.pkl has 4 results, the dataset of the config 5 images' in line(tmp_path / 'fewer.pkl', '--eval', 'PQ')
    for one in results:
        del one['pred_panoptic_seg']['evidence']
    torch.save(results, tmp_path / 'plain.pkl')
    assert 'hold no evidence' in line(tmp_path / 'plain.pkl', '--eval', 'PQ', '--fuse')
    results[2]['pred_panoptic_seg']['sem_seg'] = torch.zeros(1, 2, 3)
    torch.save(results, tmp_path / 'small.pkl')
    assert 'does not fit it: a map of (1, 2, 3)' in line(tmp_path / 'small.pkl', '--eval', 'PQ')
    results[0]['pred_instances']['masks'][0]['counts'] = b'9'
    torch.save(results, tmp_path / 'mask.pkl')
    assert 'do not add up' in line(tmp_path / 'mask.pkl', '--eval', 'segm')


class Bomb:
    """Pickles to a call that makes a folder."""

    def __reduce__(self):
        return os.mkdir, ('exploded',)


@pytest.mark.parametrize('write', [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_nothing_in_a_file_runs(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write([dict(img_id=1, bomb=Bomb())], tmp_path / 'bomb.pkl')
    with pytest.raises(UserError, match=r'^no results of tools/test\.py --out of this version: .*bomb\.pkl'):
        read_results(str(tmp_path / 'bomb.pkl'))
    torch.save(dict(img_id=1), tmp_path / 'dict.pkl')
    with pytest.raises(UserError, match='holds no list of predictions'):
        read_results(str(tmp_path / 'dict.pkl'))
    assert not (tmp_path / 'exploded').exists()
