import copy
from pathlib import Path

import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as official  # noqa: N813
import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label, name2label
from fixtures.cityscapes import HEIGHT, TREE, WIDTH
from PIL import Image

from mmpanoptic.evaluation.metrics import CityscapesInstanceMetric
from mmpanoptic.registry import METRICS
from mmpanoptic.utils import UserError

CLASSES = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
NAMES = list(TREE['val'])


def build(root: Path, **kwargs) -> CityscapesInstanceMetric:
    metric = METRICS.build(dict(type='CityscapesInstanceMetric', seg_prefix=str(root / 'gtFine/val'), **kwargs))
    metric.dataset_meta = dict(classes=CLASSES)
    return metric


def truth_path(root: Path, name: str) -> Path:
    return root / 'gtFine' / 'val' / name.split('_')[0] / f'{name}_gtFine_instanceIds.png'


def sample(name: str, masks: np.ndarray, labels: list[int], scores: list[float]) -> dict:
    masks = torch.from_numpy(np.asarray(masks, bool).reshape(-1, HEIGHT, WIDTH))
    instances = dict(masks=masks, labels=torch.tensor(labels, dtype=torch.long), scores=torch.tensor(scores))
    return dict(img_path=f'/elsewhere/leftImg8bit/{name}_leftImg8bit.png', pred_instances=instances)


def true_instances(root: Path, name: str) -> tuple[np.ndarray, list[int]]:
    """Masks and labels of the instances that are no group."""
    ids = np.array(Image.open(truth_path(root, name)))
    kept = [i for i in np.unique(ids).tolist() if i >= 1000 and id2label[i // 1000].name in CLASSES]
    return np.stack([ids == i for i in kept]), [CLASSES.index(id2label[i // 1000].name) for i in kept]


def noisy(root: Path, name: str, rng: np.random.Generator) -> dict:
    """Shifted, doubled and mislabelled instances, boxes anywhere, an empty mask; some scores are equal."""
    masks, labels = true_instances(root, name)
    masks, labels = np.concatenate([masks, masks]), labels * 2
    masks = [np.roll(mask, rng.integers(-3, 4, 2), (0, 1)) for mask in masks]
    labels = [label if rng.random() < 0.8 else int(rng.integers(8)) for label in labels]
    for _ in range(12):
        box = np.zeros((HEIGHT, WIDTH), bool)
        y, x = rng.integers(0, HEIGHT - 8), rng.integers(0, WIDTH - 8)
        box[y : y + rng.integers(2, 30), x : x + rng.integers(2, 30)] = True
        masks.append(box)
        labels.append(int(rng.integers(8)))
    masks.append(np.zeros((HEIGHT, WIDTH), bool))
    labels.append(2)
    scores = (rng.integers(1, 12, len(labels)) / 13).tolist()
    return sample(name, np.stack(masks), labels, scores)


def call_official(root: Path, samples: list[dict], folder: Path) -> dict:
    """What the evaluator gives on files that are written here, not by the metric."""
    folder.mkdir()
    predicted = []
    for data in samples:
        name = Path(data['img_path']).stem.removesuffix('_leftImg8bit')
        lines = []
        found = data['pred_instances']
        for k, (mask, label) in enumerate(zip(found['masks'].numpy(), found['labels'].tolist(), strict=True)):
            Image.fromarray(mask.astype(np.uint8)).save(folder / f'{name}_{k}.png')
            lines.append(f'{name}_{k}.png {name2label[CLASSES[label]].id} {found["scores"][k].item()!r}\n')
        predicted.append(folder / f'{name}.txt')
        predicted[-1].write_text(''.join(lines))
    args = copy.copy(official.args)
    args.quiet, args.JSONOutput = True, False
    args.predictionPath, args.gtInstancesFile = str(folder), str(folder / 'gtInstances.json')
    truths = [str(truth_path(root, p.stem)) for p in predicted]
    return official.evaluateImgLists([str(p) for p in predicted], truths, args)['averages']


def test_ground_truth_is_perfect(cityscapes_root: Path):
    metric = build(cityscapes_root, classwise=True)
    for name in NAMES:
        masks, labels = true_instances(cityscapes_root, name)
        metric.process({}, [sample(name, masks, labels, [0.9] * len(labels))])
    scores = metric.evaluate(len(NAMES))
    assert scores['cityscapes/AP'] == scores['cityscapes/AP50'] == 100.0
    assert scores['cityscapes/AP_car'] == 100.0
    assert np.isnan(scores['cityscapes/AP_train'])  # no ground truth


@pytest.mark.parametrize('seed', range(3))
def test_same_as_the_official_evaluator(
    cityscapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
):
    monkeypatch.chdir(tmp_path)  # the evaluator writes matches.json here
    rng = np.random.default_rng(seed)
    samples = [noisy(cityscapes_root, name, rng) for name in NAMES]
    expected = call_official(cityscapes_root, samples, tmp_path / 'official')
    metric = build(cityscapes_root, classwise=True)
    metric.process({}, samples[::-1])  # in any order, as from several processes
    scores = metric.evaluate(len(NAMES))
    assert 0 < scores['cityscapes/AP'] < scores['cityscapes/AP50'] < 100
    assert scores['cityscapes/AP'] == 100 * expected['allAp']
    assert scores['cityscapes/AP50'] == 100 * expected['allAp50%']
    for name in CLASSES:
        np.testing.assert_equal(scores[f'cityscapes/AP_{name}'], 100 * expected['classes'][name]['ap'])


def test_files_for_the_server(cityscapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    samples = [noisy(cityscapes_root, name, np.random.default_rng(5)) for name in NAMES]
    folder = tmp_path / 'results'
    metric = METRICS.build(dict(type='CityscapesInstanceMetric', format_only=True, outfile_prefix=str(folder)))
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples)
    assert metric.evaluate(len(NAMES)) == {}

    args = copy.copy(official.args)
    args.quiet, args.JSONOutput, args.gtInstancesFile = True, False, str(tmp_path / 'gt.json')
    monkeypatch.setenv('CITYSCAPES_RESULTS', str(folder))
    truths = [str(truth_path(cityscapes_root, name)) for name in NAMES]
    predicted = [official.getPrediction(truth, args) for truth in truths]  # found by the evaluator's own pattern
    averages = official.evaluateImgLists(predicted, truths, args)['averages']
    assert averages['allAp'] == call_official(cityscapes_root, samples, tmp_path / 'official')['allAp']


def test_mask_scores_go_before_box_scores(cityscapes_root: Path):
    masks, labels = true_instances(cityscapes_root, NAMES[0])
    wrong = np.zeros_like(masks)
    wrong[:, 2:30, 2:30] = True
    data = sample(NAMES[0], np.concatenate([masks, wrong]), labels * 2, [0.1] * len(masks) + [0.9] * len(masks))

    def score() -> float:
        metric = build(cityscapes_root)
        metric.process({}, [data])
        return metric.evaluate(1)['cityscapes/AP']

    before = score()
    data['pred_instances']['mask_scores'] = 1 - data['pred_instances']['scores']
    assert before < score() == 100.0


def test_an_image_without_predictions(cityscapes_root: Path):
    metric = build(cityscapes_root)
    masks, labels = true_instances(cityscapes_root, NAMES[0])
    metric.process({}, [sample(NAMES[0], masks, labels, [0.5] * len(labels)), sample(NAMES[1], [], [], [])])
    assert 0 < metric.evaluate(2)['cityscapes/AP'] < 100


def test_what_does_not_fit_is_refused(cityscapes_root: Path, tmp_path: Path):
    masks, labels = true_instances(cityscapes_root, NAMES[0])
    good = sample(NAMES[0], masks, labels, [0.5] * len(labels))
    with pytest.raises(UserError, match='set seg_prefix'):
        CityscapesInstanceMetric()
    with pytest.raises(UserError, match='needs outfile_prefix'):
        CityscapesInstanceMetric(format_only=True)
    with pytest.raises(UserError, match=r'lindau_9_9_gtFine_instanceIds.png, the ground truth of .* does not exist'):
        build(cityscapes_root).process({}, [good | {'img_path': 'lindau_9_9_leftImg8bit.png'}])
    with pytest.raises(UserError, match=r'predicts no masks.*score another metric'):
        build(cityscapes_root).process({}, [good | {'pred_instances': dict(scores=torch.ones(1))}])
    metric = build(cityscapes_root)
    metric.dataset_meta = dict(classes=('sofa',) * 8)
    with pytest.raises(UserError, match="'sofa' is no instance class of Cityscapes"):
        metric.process({}, [good])
    small = dict(good['pred_instances'], masks=good['pred_instances']['masks'][:, ::2, ::2])
    with pytest.raises(UserError, match=r'is 64x96 \(height x width\), the masks of .* are 32x48'):
        build(cityscapes_root).process({}, [good | {'pred_instances': small}])


def test_files_come_after_the_scores(cityscapes_root: Path, tmp_path: Path):
    samples = [noisy(cityscapes_root, name, np.random.default_rng(5)) for name in NAMES]
    folder = tmp_path / 'results'
    scores = {}
    for prefix in (None, str(folder), str(folder)):
        metric = build(cityscapes_root, outfile_prefix=prefix)
        metric.process({}, samples)
        scores[prefix] = metric.evaluate(len(NAMES))
    np.testing.assert_equal(scores[None], scores[str(folder)])
    metric.process({}, samples[:1])
    (folder / 'notes.txt').touch()  # while it was at work
    assert metric.evaluate(1)['cityscapes/AP'] > 0
    assert 'holds notes.txt' in str(metric.unwritten)
    assert (folder / f'{NAMES[1]}_leftImg8bit_pred.txt').exists()
    with pytest.raises(UserError, match=r'outfile_prefix: .*results holds notes\.txt'):
        build(cityscapes_root, outfile_prefix=str(folder)).process({}, samples)


def test_images_of_one_name_and_images_that_repeat(cityscapes_root: Path, tmp_path: Path):
    masks, labels = true_instances(cityscapes_root, NAMES[0])
    first = sample(NAMES[0], masks, labels, [0.9] * len(labels))
    empty = sample(NAMES[0], [], [], [])
    metric = build(cityscapes_root)
    metric.process({}, [first, empty])  # the first is found, the second is missed: neither replaces the other
    assert 0 < metric.evaluate(2)['cityscapes/AP'] < build_and_score(cityscapes_root, first)
    metric = build(cityscapes_root)
    metric.process({}, [first, first | dict(img_path=f'/other/{Path(first["img_path"]).name}')])
    with pytest.raises(UserError, match='have the same name, by which their ground truth is found'):
        metric.evaluate(2)
    metric = build(cityscapes_root, outfile_prefix=str(tmp_path / 'out'))
    metric.process({}, [first, first])
    metric.evaluate(2)
    assert 'an image was tested twice' in str(metric.unwritten)


def build_and_score(root: Path, one: dict) -> float:
    metric = build(root)
    metric.process({}, [one])
    return metric.evaluate(1)['cityscapes/AP']
