"""Oracles on results of every system, against tests of the same models and against the orders of the ground truth."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from fixtures.tiny_model import CIAE, OANET, SHAPES, SPATIALFLOW
from fixtures.tiny_run import write_config
from helpers.evidence import evidence_of, instances_of
from helpers.repo import load_tool, run_main
from mmdet.structures.mask import encode_mask_results
from mmengine.config import Config

from mmpanoptic.analysis.oracles import ORACLES
from mmpanoptic.apis import load_model
from mmpanoptic.datasets.shapes.categories import CATEGORIES
from mmpanoptic.engine import cli
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.engine.configs import load_config
from mmpanoptic.evaluation.panoptic_quality import average
from mmpanoptic.formats.panoptic_json import dataset_meta, parse_categories
from mmpanoptic.structures import Evidence, StuffLabels
from mmpanoptic.structures.plain_evidence import to_plain
from mmpanoptic.utils import UserError

TOOL, TEST, ORDERS = (load_tool(name) for name in ('analysis_tools/oracles', 'test', 'analysis_tools/fusion_orders'))
pytestmark = pytest.mark.slow

FEW = 'score_thr=0.0, max_per_img=12'
OF_ROIS = f'rpn=dict(max_per_img=40), rcnn=dict({FEW})'
TEST_CFG = {SHAPES: OF_ROIS, OANET: OF_ROIS, CIAE: FEW, SPATIALFLOW: FEW}
OF_INSTANCES = ('classes', 'boxes', 'masks', 'extra', 'missed')


class Tested(NamedTuple):
    """A folder with tiny.py, tiny.pth and results.pkl of a model that has learned nothing, and PQ of its test."""

    folder: Path
    pq: float


@pytest.fixture(scope='module')
def tested(tiny_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tested]:
    """Makes that of a system, once."""
    made: dict[str, Tested] = {}

    def get(base: str) -> Tested:
        if base not in made:
            folder = tmp_path_factory.mktemp('oracles')
            extra = f'model = dict(test_cfg=dict({TEST_CFG[base]}), '
            extra += 'panoptic_fusion_head=dict(score_thr=0.0, stuff_area_limit=0))\n'
            config = write_config(folder / 'tiny.py', tiny_shapes, extra=extra, base=base.removeprefix('configs/'))
            torch.manual_seed(0)
            model, _ = load_model(Config.fromfile(config), device='cpu')
            meta = dict(dataset_meta=dataset_meta(parse_categories(list(CATEGORIES), 'categories')))
            torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'tiny.pth')
            made[base] = Tested(folder, test_pq(folder, '--out', folder / 'results.pkl', '--evidence'))
        return made[base]

    return get


def test_pq(folder: Path, *args) -> float:
    """PQ of a test of the model in a folder."""
    work_dir = folder / f'work{len(list(folder.glob("work*")))}'
    with pytest.MonkeyPatch.context() as patch:
        run_main(TEST, patch, folder / 'tiny.py', folder / 'tiny.pth', '--eval', 'PQ', '--work-dir', work_dir, *args)
    return json.loads(next(work_dir.glob('*/*.json')).read_text())['panoptic/PQ']


test_pq.__test__ = False


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[tuple[str, ...], float]]:
    """Runs the tool; gives PQ by the oracles that were combined."""

    def ask(folder: Path, *args) -> dict[tuple[str, ...], float]:
        out = tmp_path / 'scores.json'
        run_main(TOOL, monkeypatch, folder / 'tiny.py', folder / 'results.pkl', '--out', out, *args)
        return {tuple(one['oracles']): 100 * one['All']['pq'] for one in json.loads(out.read_text())}

    return ask


@pytest.mark.parametrize('base', [SHAPES, SPATIALFLOW])
def test_masks_are_mended_until_all_is_right(base, tested, ask, capsys):
    """Without oracles, the score of the test; with all of them, the ground truth."""
    made = tested(base)
    scores = ask(made.folder)
    assert scores[()] == made.pq < 20
    assert scores[tuple(ORACLES)] == 100
    assert len(scores) == 1 + 7 + 6
    printed = capsys.readouterr().out
    assert [f'│ {name} alone ' in printed for name in ORACLES] == [True] * 7
    assert printed.count('│ + ') == 6 and '100.00' in printed


def disturbed(sample: dict) -> Evidence:
    """The ground truth's overlapping masks, a little off, the hindmost the most confident; some have another class."""
    truth = sample['data_samples'].gt_instances
    rng = torch.Generator().manual_seed(sample['data_samples'].img_id)
    masks = truth.masks.to_tensor(torch.bool, 'cpu').roll((1, 1), (1, 2))
    labels = torch.where(torch.rand(len(masks), generator=rng) < 0.1, (truth.labels + 1) % 7, truth.labels)
    scores = torch.linspace(0.9, 0.6, len(masks))  # instances are listed from back to front
    stuff = StuffLabels(torch.randint(7, (1, 1), generator=rng).expand(masks.shape[1:]).clone())
    return evidence_of(instances_of(masks, labels.tolist(), scores.tolist()), stuff)


def stored(evidence: Evidence, image_id: int) -> dict:
    """Evidence as a results file has it."""
    instances = dict(evidence.instances.items())
    instances['masks'] = encode_mask_results(instances['masks'].numpy())
    kept = to_plain(evidence, evidence.stuff.labels)
    panoptic = dict(sem_seg=torch.zeros(1, *evidence.output_size, dtype=torch.int32), evidence=kept)
    return dict(img_id=image_id, pred_instances=instances, pred_panoptic_seg=panoptic)


def test_the_true_order_is_that_of_the_comparison_of_orders(tested, ask, monkeypatch, tmp_path, capsys):
    """The same bits, and those of the learned order without an oracle."""
    made = tested(OANET)
    config = load_config(str(made.folder / 'tiny.py'))
    config.train_dataloader.dataset.inst_ann_file = 'annotations/instances_train.json'
    config.test_dataloader.dataset.inst_ann_file = 'annotations/instances_val.json'
    config.dump(tmp_path / 'tiny.py')
    dataset = build_dataset(config, 'test_dataloader')
    samples = [dataset[index] for index in range(len(dataset))]
    results = [stored(disturbed(sample), sample['data_samples'].img_id) for sample in samples]
    torch.save(results, tmp_path / 'results.pkl')
    scores = ask(tmp_path, '--oracles', 'order', 'boxes', 'classes', '--checkpoint', made.folder / 'tiny.pth')

    monkeypatch.setattr(ORDERS, 'evidence_of', lambda model, sample: disturbed(sample))
    model, _ = load_model(config, str(made.folder / 'tiny.pth'), 'cpu')
    arguments = Namespace(seed=0, images=None, train_images=4, classes=None)
    stats, _, categories = ORDERS.score_orders(config, model, arguments)
    expected = {name: 100 * average(stat, categories)['pq'] for name, stat in stats.items()}
    assert scores['order',] == expected['true order'] > expected['learned ranking'] + 1
    assert scores[()] == expected['learned ranking'] > 1
    assert scores['order',] < scores['order', 'boxes'] < scores['order', 'boxes', 'classes'] < 100


def test_a_learned_order_is_the_one_of_the_test(tested, ask):
    made = tested(OANET)
    scores = ask(made.folder, '--oracles', 'missed', '--checkpoint', made.folder / 'tiny.pth')
    assert scores[()] == made.pq < scores['missed',]


def test_instances_of_the_ground_truth_are_those_of_the_oracle_of_ciae(tested, ask, capsys):
    made = tested(CIAE)
    scores = ask(made.folder, '--oracles', *OF_INSTANCES, 'semantics')
    assert scores[()] == made.pq
    assert scores[OF_INSTANCES] == pytest.approx(test_pq(made.folder, '--cfg-options', 'model.oracle=True'), abs=1e-9)
    capsys.readouterr()
    scores = ask(made.folder, '--images', '2')
    assert 'note: order is left out: EmbeddingFusion' in capsys.readouterr().out
    assert not any('order' in oracles for oracles in scores)


def test_what_is_wrong_is_told_in_a_line(tested, tmp_path, monkeypatch, capsys):
    made = tested(SHAPES)
    config, results = made.folder / 'tiny.py', made.folder / 'results.pkl'

    def line(*args, config=config, results=results) -> str:
        with pytest.raises(SystemExit):
            cli.run(lambda: run_main(TOOL, monkeypatch, config, results, *args))
        (found,) = capsys.readouterr().err.splitlines()
        return found

    assert line('--oracles', 'depth') == (
        "error: there is no oracle 'depth': choose from order, semantics, boxes, masks, classes, extra, missed"
    )
    assert line('--images', '0') == 'error: --images 0: at least one image is needed'
    assert line('--out', tmp_path) == f'error: --out {tmp_path} is a folder: name a file'
    ciae = tested(CIAE).folder
    error = line('--oracles', 'order', config=ciae / 'tiny.py', results=ciae / 'results.pkl')
    assert 'order: EmbeddingFusion' in error and 'leave it out (--oracles)' in error
    error = line(config=ciae / 'tiny.py')
    assert 'EmbeddingFusion takes EmbeddingMap' in error
    assert line(results=tested(OANET).folder / 'none.pkl').startswith('error: no results of tools/test.py')
    oanet = tested(OANET).folder
    assert 'RankingFusion has weights' in line(config=oanet / 'tiny.py', results=oanet / 'results.pkl')
    content = torch.load(results, weights_only=True)
    content[1]['pred_panoptic_seg']['evidence']['output_size'] = (5, 6)
    torch.save(content, tmp_path / 'size.pkl')
    assert 'evidence of (5, 6)' in line(results=tmp_path / 'size.pkl')
    del content[1]['pred_panoptic_seg']['evidence']
    torch.save(content, tmp_path / 'plain.pkl')
    assert 'tools/test.py --out FILE --evidence' in line(results=tmp_path / 'plain.pkl')


def test_images_without_ground_truth(tested, tiny_shapes, tmp_path, monkeypatch):
    made = tested(SHAPES)
    data = json.loads((tiny_shapes / 'annotations/panoptic_val.json').read_text())
    del data['annotations']
    (tmp_path / 'images.json').write_text(json.dumps(data))
    option = f'test_dataloader.dataset.ann_file={tmp_path}/images.json'
    with pytest.raises(UserError, match=r'\.jpg has no ground truth|\.png has no ground truth'):
        run_main(TOOL, monkeypatch, made.folder / 'tiny.py', made.folder / 'results.pkl', '--cfg-options', option)
