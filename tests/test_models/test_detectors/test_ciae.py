"""CIAE put together: sizes, operations, gradients, nothing to find, several sizes, points, switches, oracle."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.models import train_step
from helpers.repo import CONFIGS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.analysis.operations import count_multiply_adds, sum_by_part
from mmpanoptic.evaluation.panoptic_quality import accumulate, average, match_segments
from mmpanoptic.models.detectors.ciae import annotated_instances
from mmpanoptic.models.detectors.samples import without_classes
from mmpanoptic.models.seg_heads import CIAEOutputs
from mmpanoptic.registry import MODELS
from mmpanoptic.utils import UserError

FOLDER = CONFIGS / 'ciae'
COCO = 'ciae_r50_fpn_90k_coco'
SIZES = (64, 96), (96, 64)
MEMORY = 'semantic_head.memory.embeddings'
# Over a config of COCO: nothing of it changes but widths and thresholds.
SMALL = dict(
    backbone=dict(depth=18, base_channels=32, stem_channels=32, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32, norm_cfg=dict(type='GN', num_groups=8, requires_grad=True)),
    semantic_head=dict(in_channels=32, inner_channels=32, norm_cfg=dict(num_groups=8)),
    panoptic_fusion_head=dict(score_thr=0.0, stuff_area_limit=0),
    test_cfg=dict(score_thr=0.0, nms_pre=50, max_per_img=6),
)


@pytest.fixture(autouse=True)
def no_runner(monkeypatch):
    """The memory's momentum is not that of a training that has run before in this process."""
    monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: MessageHub('none'))


def config_of(name: str, **options) -> Config:
    config = Config.fromfile(FOLDER / f'{name}.py')
    init_default_scope(config.default_scope)
    config.merge_from_dict(dict(model=options))
    return config


def build(name: str = COCO, small: bool = True, **options) -> torch.nn.Module:
    config = config_of(name, **(SMALL if small else {}))
    config.merge_from_dict(dict(model=options))
    set_random_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    return model


@pytest.fixture(scope='module')
def shared_model() -> torch.nn.Module:
    return build()


@pytest.fixture
def model(shared_model) -> torch.nn.Module:
    """Small, in eval mode, not to be changed but by a training step."""
    return shared_model.eval()


def batch(*nums: int, sizes=SIZES, crowd: bool = False) -> dict:
    """Data as it leaves the data loader, with so many things an image; the original is 3 times as wide, 2 as high."""
    inputs, samples = [], []
    for index, num in enumerate(nums):
        height, width = size = sizes[index % 2]
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(1, 3, height // 8, width // 8, generator=generator)
        inputs.append((255 * F.interpolate(image, size, mode='bicubic').clamp(0, 1))[0].to(torch.uint8))
        sample = DetDataSample(
            metainfo=dict(img_shape=size, ori_shape=(2 * height, 3 * width), scale_factor=(1 / 3, 0.5))
        )
        masks, labels = np.zeros((num, *size), np.uint8), torch.full((1, *size), 85)
        labels[:, :10] = 255
        boxes = torch.tensor([[16.0 * i, 12, 16 * i + 14, 50] for i in range(num)]).reshape(-1, 4)
        for i in range(num):
            masks[i, 12:50, 16 * i : 16 * i + 14] = 1
            labels[:, 12:50, 16 * i : 16 * i + 14] = i
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.arange(num), masks=BitmapMasks(masks, height, width)
        )
        sample.ignored_instances = sample.gt_instances[:0]
        if crowd:  # pixels of a class, and a box that is ignored
            labels[:, 52:] = 3
            sample.ignored_instances = InstanceData(
                bboxes=torch.tensor([[0.0, 52, width, height]]),
                labels=torch.tensor([3]),
                masks=BitmapMasks(np.zeros((1, *size), np.uint8), height, width),
            )
        sample.gt_sem_seg = PixelData(sem_seg=labels)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def predict(model: torch.nn.Module, data: dict, **kwargs) -> list[DetDataSample]:
    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(data, training=False)
        return model.predict(data['inputs'], data['data_samples'], **kwargs)


# ------------------------------------------------------------------------------------------------------------- numbers

R50, R101_MORE = 34_669_050, 18_992_128
TOTALS = {
    COCO: R50,
    'ciae_r50_fpn_ms-180k_coco': R50,
    'ciae_r101_fpn_ms-180k_coco': R50 + R101_MORE,
    'ablations/table3_coord': R50 - 73_760 - 9_248,  # the box embedding's convolution, and P''
    'ablations/table3_box': R50 - 3 * 2 * 9 * 128,  # two coordinates in each of three convolutions
    'ablations/table1_semseg': R50 + 128 * 54 + 54,
    'ablations/table2_spec-merge-emb': R50 - 79 * (9 * 256 + 1),
    'ablations/table2_spec-spec-emb': R50,
}


@pytest.mark.parametrize('name', TOTALS)
def test_parameters(name):
    with torch.device('meta'):
        model = MODELS.build(config_of(name).model)
    assert sum(p.numel() for p in model.parameters()) == TOTALS[name]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == TOTALS[name] - 225_344
    rows = {'ablations/table2_spec-spec-emb': 133, 'ablations/table2_spec-merge-emb': 133}.get(name, 54)
    memory = dict(model.named_buffers()).get(MEMORY)
    assert (memory is None) if 'semseg' in name else memory.shape == (rows, 32)


# What the paper says, and what its tables vary, as the built parts have it.
PAPER = dict(
    dims=32, box_dims=32, momentum=0.9999, filter=1.5, margin=0.15, topk=5, self_term=True, alpha=2, weight=5,
    detach=False, stride=1, coord='all', thing_rows=1, class_from='detector', box_scale=1, area=4096, oracle=False,
)  # fmt: skip
VARIED = {
    COCO: {},
    'ciae_x101-64x4d-dconv-c3-c5_fpn_ms-180k_coco': {},
    'ablations/table2_none-spec-det': dict(thing_rows=0),
    'ablations/table2_spec-merge-emb': dict(thing_rows=80, class_from='embedding'),
    'ablations/table2_spec-spec-det': dict(thing_rows=80),
    'ablations/table2_spec-spec-emb': dict(thing_rows=80, class_from='embedding'),
    'ablations/table3_none': dict(box_dims=0, coord=None),
    'ablations/table3_coord': dict(box_dims=0),
    'ablations/table3_box': dict(coord=None),
    'ablations/table4_r50-oracle': dict(oracle=True),
    'ablations/table4_r101': {},
    'ablations/table4_r101-oracle': dict(oracle=True),
    'ablations/table5_momentum-0': dict(momentum=0),
    'ablations/table5_momentum-99': dict(momentum=0.99),
    'ablations/table5_momentum-999': dict(momentum=0.999),
    'ablations/table5_momentum-99999': dict(momentum=0.99999),
    'ablations/table6_all': dict(filter=None, box_scale=None),
    'ablations/table6_filter-100': dict(filter=1.0),
    'ablations/table6_filter-120': dict(filter=1.2),
    'ablations/table6_filter-200': dict(filter=2.0),
    'ablations/table7_margin-000': dict(margin=0),
    'ablations/table7_margin-010': dict(margin=0.1),
    'ablations/table7_margin-020': dict(margin=0.2),
    'ablations/table7_margin-030': dict(margin=0.3),
    'ablations/table8_dims-16': dict(dims=16, box_dims=16),
    'ablations/table8_dims-24': dict(dims=24, box_dims=24),
    'ablations/table8_dims-48': dict(dims=48, box_dims=48),
}


def test_every_row_of_the_tables_is_here():
    """All but table I's, which has no memory."""
    rows = {f'ablations/{path.stem}' for path in (FOLDER / 'ablations').glob('table*.py')}
    assert rows == {name for name in VARIED if '/' in name} | {'ablations/table1_semseg'}


@pytest.mark.parametrize('name', VARIED)
def test_values_of_the_paper(name):
    """As the built parts have them; tests/test_configs/test_ciae_configs.py holds everything else of the ablations."""
    with torch.device('meta'):
        model = MODELS.build(config_of(name).model)
    head, fusion = model.semantic_head, model.panoptic_fusion_head
    loss, last = head.loss_embedding, head.level_convs[-1]
    seen_by = [conv.conv.in_channels % 128 == 2 for conv in last]
    assert dict(
        dims=head.memory.embeddings.size(1),
        box_dims=head.box_embedding_dims,
        momentum=head.memory.momentum,
        filter=loss.filter_scale,
        margin=loss.pixel_loss.keywords['margin'],
        topk=loss.pixel_loss.keywords['topk'],
        self_term=loss.pixel_loss.keywords['self_term'],
        alpha=loss.alpha,
        weight=loss.thing_weight,
        detach=loss.detach_queries,
        stride=loss.stride,
        coord='all' if all(seen_by) else None,
        thing_rows=len(head.memory.embeddings) - 53,
        class_from=fusion.category_from,
        box_scale=fusion.box_scale,
        area=fusion.stuff_area_limit,
        oracle=model.oracle,
    ) == {**PAPER, **VARIED[name]}
    assert head.memory.max_iters is None, 'the runner says how long it takes'
    assert model.bbox_head.num_classes == (1 if 'merge' in name else 80)
    thresholds = dict(score_thr=0.05, nms_pre=1000, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100)
    assert {key: model.bbox_head.test_cfg[key] for key in thresholds} == thresholds
    assert fusion.score_thr == 0.25


@pytest.mark.parametrize(
    ('name', 'iterations', 'drops', 'sizes'),
    [
        (COCO, 90_000, [60_000, 80_000], (1333, 800)),
        ('ciae_r50_fpn_ms-180k_coco', 180_000, [120_000, 160_000], [(1333, 640), (1333, 800)]),
    ],
)
def test_schedules(name, iterations, drops, sizes):
    config = config_of(name)
    assert config.train_cfg.max_iters == config.param_scheduler[1].end == iterations
    assert config.param_scheduler[1].milestones == drops and config.param_scheduler[1].gamma == 0.1
    assert config.param_scheduler[0].end == 500
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)
    assert config.auto_scale_lr.base_batch_size == 16
    assert config.train_dataloader.dataset.pipeline.resize.scale == sizes
    for size in (512, 640):
        small = config_of(f'ciae_r50_fpn_ms-180k_coco_{size}px')
        assert small.test_dataloader.dataset.pipeline.resize.scale[1] == size
        assert small.val_dataloader.dataset.pipeline.resize.scale[1] == size
        assert small.train_dataloader == config_of('ciae_r50_fpn_ms-180k_coco').train_dataloader


def test_operations():
    """An image of 800x1344, written out, and in G as in the list of closed-form numbers."""
    with torch.device('meta'):
        model = MODELS.build(config_of(COCO).model).eval()
    image = torch.empty(1, 3, 800, 1344, device='meta')
    exact = count_multiply_adds(model, lambda: model(image, mode='tensor'))
    counts = sum_by_part(exact)
    places = 100 * 168 + 50 * 84 + 25 * 42 + 13 * 21 + 7 * 11
    assert places == 22_400
    assert counts['bbox_head'] == places * 9 * 256 * (8 * 256 + 80 + 4 + 1 + 32)
    box_embedding = exact['bbox_head.conv_box_embedding']
    last = exact['semantic_head.conv_embedding'] + exact['semantic_head.conv_box_embedding']
    similarity = (53 + 100) * 32 * 800 * 1344  # of the paper's product at every pixel, of 100 instances
    giga = {
        'backbone': counts['backbone'],
        'neck': counts['neck'],
        'FCOS': counts['bbox_head'] - box_embedding,
        'box embedding': box_embedding,
        'branch': counts['semantic_head'] - last,
        "P' + P''": last,
        'similarity': similarity,
        'total': sum(counts.values()) + similarity,
    }
    assert {part: round(count / 1e9, 1) for part, count in giga.items()} == {
        'backbone': 87.6,
        'neck': 61.1,
        'FCOS': 110.1,
        'box embedding': 1.7,
        'branch': 31.9,
        "P' + P''": 0.9,
        'similarity': 5.3,
        'total': 298.5,
    }


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize('nums', [(0,), (0, 2), (3, 1)])
@pytest.mark.parametrize('crowd', [False, True])
def test_trains(model, nums, crowd):
    """Every parameter gets a gradient also without things, without which DDP would wait for ever."""
    values = train_step(model, batch(*nums, crowd=crowd))
    assert list(values) == ['loss', 'loss_cls', 'loss_bbox', 'loss_centerness', 'loss_cae', 'loss_iae']
    assert all(values[name] > 0 for name in ('loss_cls', 'loss_cae', 'loss_iae'))
    assert (values['loss_bbox'] > 0) == any(nums), 'nothing is positive in a crowd'


def test_memory_follows_training_and_is_saved(tmp_path):
    model = build()
    before = model.state_dict()[MEMORY].clone()
    predict(model, batch(2, 1))
    assert torch.equal(model.state_dict()[MEMORY], before), 'prediction must not touch it'
    train_step(model, batch(2, 0))
    after = model.state_dict()[MEMORY]
    assert (after != before).any(1).nonzero().flatten().tolist() == [5, 53], 'stuff 85 - 80, and things'
    assert MEMORY not in dict(model.named_parameters())

    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    other = build()
    other.semantic_head.memory.embeddings.zero_()
    other.load_state_dict(torch.load(tmp_path / 'weights.pth'))
    assert torch.equal(other.state_dict()[MEMORY], after)


def test_a_detector_that_tells_no_classes_is_trained_on_one(monkeypatch):
    model = build('ablations/table2_spec-merge-emb')
    seen = []
    loss = model.bbox_head.detection_loss

    def detection_loss(outputs, samples):
        seen.extend(samples)
        return loss(outputs, samples)

    monkeypatch.setattr(model.bbox_head, 'detection_loss', detection_loss)
    data = batch(3, 2)
    train_step(model, data)
    assert [s.gt_instances.labels.tolist() for s in seen] == [[0, 0, 0], [0, 0]]
    assert [s.gt_instances.labels.tolist() for s in data['data_samples']] == [[0, 1, 2], [0, 1]]


def test_without_classes_keeps_all_else():
    (sample,) = batch(2, crowd=True)['data_samples']
    plain = without_classes(sample)
    assert plain.gt_instances.labels.tolist() == [0, 0] and sample.gt_instances.labels.tolist() == [0, 1]
    assert plain.gt_instances.masks is sample.gt_instances.masks
    assert plain.gt_instances.bboxes is sample.gt_instances.bboxes
    assert plain.ignored_instances is sample.ignored_instances and plain.img_shape == sample.img_shape
    del sample.ignored_instances
    assert 'ignored_instances' not in without_classes(sample)


# ---------------------------------------------------------------------------------------------------------- prediction


def test_predictions_at_both_sizes(model):
    large = predict(model, batch(0, 0))
    small = predict(model, batch(0, 0), rescale=False)
    for of_large, of_small, (height, width) in zip(large, small, SIZES, strict=True):
        assert of_large.pred_panoptic_seg.sem_seg.shape == (1, 2 * height, 3 * width)
        assert of_small.pred_panoptic_seg.sem_seg.shape == (1, height, width)
        ours, theirs = of_large.pred_instances, of_small.pred_instances
        assert len(ours) == 6 and 'masks' not in ours
        torch.testing.assert_close(ours.bboxes, theirs.bboxes * torch.tensor([3, 2, 3, 2]))
        # The centre of an input's pixel: across, the middle one of three; down, between two.
        assert torch.equal(ours.points, theirs.points * torch.tensor([3, 2]) + 1)
        assert ours.bboxes.min() >= 0 and (ours.bboxes <= torch.tensor([3 * width, 2 * height] * 2)).all()
        assert (theirs.points < torch.tensor([width, height])).all()
        assert torch.equal(ours.scores, theirs.scores) and torch.equal(ours.labels, theirs.labels)
        torch.testing.assert_close(ours.embeddings.norm(dim=1), torch.ones(6))
        for segment in of_large.pred_panoptic_seg.segments_info:
            instance = segment['instance']
            assert segment['label'] == (85 if instance is None else ours.labels[instance]) or segment['label'] >= 80


@pytest.mark.parametrize('name', [COCO, 'ablations/table1_semseg'])
def test_batched_is_single(name):
    """In float64, where rounding cannot move a pixel; both are padded to 96x96."""
    data = batch(0, 0)
    model = build(name).double().eval()
    if model.semantic_head.conv_logits is not None:
        torch.nn.init.normal_(model.semantic_head.conv_logits.weight)
    model.data_preprocessor.pad_size_divisor = 96
    singles = [dict(inputs=[x], data_samples=[s]) for x, s in zip(*data.values(), strict=True)]
    results = []
    for one in (data, *singles):
        one = model.data_preprocessor(one, training=False)
        assert one['inputs'].shape[-2:] == (96, 96)
        results += model.predict(
            one['inputs'].double(), [DetDataSample(metainfo=s.metainfo) for s in one['data_samples']]
        )
    for batched, single in zip(results[:2], results[2:], strict=True):
        assert torch.equal(batched.pred_panoptic_seg.sem_seg, single.pred_panoptic_seg.sem_seg)
        assert torch.equal(batched.pred_instances.points, single.pred_instances.points)
        torch.testing.assert_close(batched.pred_instances.bboxes, single.pred_instances.bboxes)
        assert len(batched.pred_panoptic_seg.sem_seg.unique()) > 2
    assert not torch.equal(results[0].pred_instances.points, results[1].pred_instances.points)


def test_nothing_detected(model, monkeypatch):
    monkeypatch.setitem(model.bbox_head.test_cfg, 'score_thr', 1.0)
    for result in predict(model, batch(2, 0)):
        assert len(result.pred_instances) == 0
        assert result.pred_instances.points.shape == (0, 2) and result.pred_instances.embeddings.shape == (0, 32)
        assert all(segment['label'] >= 80 for segment in result.pred_panoptic_seg.segments_info)
        assert (result.pred_panoptic_seg.sem_seg < model.num_classes).all()


def test_points_on_locations_beyond_the_image(model, monkeypatch):
    """P6 of an image of 64x96 has a location at (96, 32), P7 one at (64, 64): the nearest pixels are read."""
    forward = model.bbox_head.forward

    def two_detections(feats):
        outputs = forward(feats)
        cls_scores, distances = outputs.cls_scores, outputs.distances
        for level in cls_scores:
            level.fill_(-20)
        assert cls_scores[3].shape[2:] == (1, 2) and cls_scores[4].shape[2:] == (1, 1)
        cls_scores[3][0, 7, 0, 1] = 10
        cls_scores[4][0, 9, 0, 0] = 9
        for level in distances:
            level.fill_(40)
        return outputs

    monkeypatch.setattr(model.bbox_head, 'forward', two_detections)
    monkeypatch.setitem(model.bbox_head.test_cfg, 'max_per_img', 2)
    (result,) = predict(model, batch(0), rescale=False)
    found = result.pred_instances[result.pred_instances.labels.argsort()]
    assert found.labels.tolist() == [7, 9]
    assert found.points.tolist() == [[95, 32], [64, 63]]
    assert found.bboxes.tolist() == [[56, 0, 96, 64], [24, 24, 96, 64]]
    with torch.no_grad():
        raw = model(model.data_preprocessor(batch(0))['inputs'], mode='tensor')[-1]
    large = F.normalize(F.interpolate(raw, scale_factor=4, mode='bilinear', align_corners=False), dim=1)[0]
    torch.testing.assert_close(found.embeddings, torch.stack([large[:, 32, 95], large[:, 63, 64]]))
    torch.testing.assert_close(large.norm(dim=0), torch.ones(64, 96))

    (result,) = predict(model, batch(0))
    assert sorted(result.pred_instances.points.tolist()) == [[193, 127], [286, 65]]


def test_tensor_mode(model):
    with torch.no_grad():
        outputs = model(torch.zeros(2, 3, 64, 96), mode='tensor')
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    for maps, channels in zip(outputs[:4], (80, 4, 1, 32), strict=True):
        assert [tuple(level.shape) for level in maps] == [(2, channels, *size) for size in sizes]
    (embedding,) = outputs[4:]
    assert embedding.shape == (2, 32, 16, 24)


# ------------------------------------------------------------------------------------------------------------ switches

SWITCHES = [*sorted(path.stem for path in (FOLDER / 'ablations').glob('table[123]_*.py')), 'table4_r50-oracle']


def panoptic_truth(samples: list[DetDataSample]) -> None:
    """Give samples what evaluation needs: their labels and masks as a panoptic map at the original size."""
    for sample in samples:
        ids = sample.gt_sem_seg.sem_seg.clone().int() + 1
        infos = []
        for label in sample.gt_sem_seg.sem_seg.unique().tolist():
            box = torch.tensor([0, 0, *sample.img_shape[::-1]])
            if label < 80:
                box = sample.gt_instances.bboxes[label].clone()
                box[2:] -= box[:2]
            box = box * torch.tensor([3, 2, 3, 2])
            infos.append(dict(id=label + 1, label=label, is_thing=label < 80, iscrowd=0, bbox=box.tolist()))
        ids = ids.repeat_interleave(2, 1).repeat_interleave(3, 2)
        sample.gt_panoptic_seg = PixelData(sem_seg=ids, metainfo=dict(segments_info=infos))


@pytest.mark.parametrize('name', SWITCHES)
def test_every_switch_trains_and_predicts(name):
    model = build(f'ablations/{name}')
    values = train_step(model, batch(2, 0))
    expected = {
        'table1_semseg': {'loss_iae', 'loss_seg'},
        'table2_none-spec-det': {'loss_iae'},
    }.get(name, {'loss_cae', 'loss_iae'})
    assert set(values) == expected | {'loss', 'loss_cls', 'loss_bbox', 'loss_centerness'}
    data = batch(2, 0)
    panoptic_truth(data['data_samples'])
    results = predict(model, data)
    for result in results:
        assert result.pred_panoptic_seg.sem_seg.shape == (1, *result.ori_shape)
        assert (result.pred_instances.labels < 80).all()
    found, panoptic = results[0].pred_instances, results[0].pred_panoptic_seg
    if name.endswith('emb'):  # the embedding says which class
        closest = (found.embeddings @ model.semantic_head.thing_queries.T).argmax(1)
        assert torch.equal(found.labels, closest)
        assert len(model.semantic_head.thing_queries) == 80
    things = [s for s in panoptic.segments_info if s['instance'] is not None]
    assert all(s['label'] == found.labels[s['instance']] for s in things)
    if 'oracle' in name:
        assert found.labels.tolist() == [0, 1] and found.scores.tolist() == [1, 1]
        torch.testing.assert_close(found.bboxes, torch.tensor([[0.0, 24, 42, 100], [48, 24, 90, 100]]))
        assert len(results[1].pred_instances) == 0


def test_the_oracle_has_the_classes_of_the_ground_truth_whatever_names_instances_else():
    model, data = build('ablations/table2_spec-spec-emb', oracle=True), batch(2)
    panoptic_truth(data['data_samples'])
    (result,) = predict(model, data)
    assert result.pred_instances.labels.tolist() == [0, 1]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_does_not_reach_what_needs_more(dtype):
    """Distances beyond exp(11.1), which float16 does not have; embeddings and semantics on their way to fusion."""
    model = build('ablations/table1_semseg').train()
    data = model.data_preprocessor(batch(2, 0), training=True)
    with torch.autocast('cpu', dtype=dtype):
        losses = model(**data, mode='loss')
        total, _ = model.parse_losses(losses)
    total.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())

    torch.nn.init.zeros_(model.bbox_head.conv_reg.weight)
    torch.nn.init.constant_(model.bbox_head.conv_reg.bias, 11.5)
    model.eval()
    seen = []
    fuse = model.panoptic_fusion_head.predict
    model.panoptic_fusion_head.predict = lambda evidence: seen.extend(evidence) or fuse(evidence)
    data = model.data_preprocessor(batch(0), training=False)
    with torch.autocast('cpu', dtype=dtype), torch.no_grad():
        distances = model.bbox_head(model.extract_feat(data['inputs'])[-5:])[1]
        (result,) = model.predict(data['inputs'], data['data_samples'])
    assert all(level.dtype == torch.float32 and torch.isfinite(level).all() for level in distances)
    assert [(its.stuff.embedding.dtype, its.stuff.semantic.dtype) for its in seen] == [(torch.float32,) * 2]
    assert result.pred_instances.scores.dtype == result.pred_instances.embeddings.dtype == torch.float32


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(bbox_head=dict(num_classes=3)), 'has 3 of 80 classes'),
        (dict(bbox_head=dict(num_classes=1)), "1 and the fusion head category_from='embedding'"),
        (dict(panoptic_fusion_head=dict(category_from='embedding')), "needs thing_categories='spec'"),
        (dict(bbox_head=dict(box_embedding_dims=0)), 'is 0 in bbox_head and 32 in semantic_head'),
        (dict(semantic_head=dict(box_embedding_dims=0)), 'is 32 in bbox_head and 0 in semantic_head'),
        (dict(semantic_head=dict(num_stuff_classes=9)), 'num_stuff_classes is 9 in semantic_head and 53'),
        (dict(semantic_head=dict(num_things_classes=9)), 'num_things_classes is 9 in semantic_head and 80'),
    ],
)
def test_parts_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


# -------------------------------------------------------------------------------------------------------------- oracle

# Bands across an image of 64x96 pixels: sky, two balls side by side, grass, and another thing. The enlarged map says at
# each pixel what the nearest cell says; at a corner it would not, where three cells outvote the nearest one.
_BANDS = (5, 4, 3, 2, 2)  # in cells of 4 pixels
_LABELS = (7, 2, 2, 12, 0)  # of Shapes: things 0 to 6, stuff 7 to 12


def bands(down: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Band of each cell of a map of 16x24, and the bands' boxes at the size of the input."""
    stops = torch.tensor(_BANDS).cumsum(0)
    boxes = torch.tensor([0, 0, 96, 64]).repeat(5, 1)
    boxes[1:, int(down)] = boxes[:-1, 2 + int(down)] = 4 * stops[:-1]
    cells = torch.bucketize(torch.arange(24), stops, right=True).clamp(max=4)
    return (cells[:16, None].expand(16, 24) if down else cells.expand(16, 24)), boxes


def perfect(monkeypatch, down: bool, **options) -> tuple[torch.nn.Module, DetDataSample]:
    """A model on Shapes that embeds each band in a direction of its own, and the sample of an image.

    The original is three times as wide as the input, and twice as high.
    """
    model = build('ciae_r18_fpn_shapes', small=False, panoptic_fusion_head=dict(stuff_area_limit=0), **options)
    cells, boxes = bands(down)
    rows = torch.eye(32)[torch.randperm(32, generator=torch.Generator().manual_seed(0))]
    memory = model.semantic_head.memory.embeddings
    memory.copy_(rows[5:12])
    memory[0], memory[5] = rows[0], rows[3]
    lengths = torch.rand(16, 24, generator=torch.Generator().manual_seed(1)) * 0.05 + 3
    embedding = (rows[cells] * lengths[..., None]).permute(2, 0, 1)[None]
    monkeypatch.setattr(model.semantic_head, 'forward', lambda feats, box_embeddings: CIAEOutputs(embedding, None))

    sample = DetDataSample(metainfo=dict(img_shape=(64, 96), ori_shape=(128, 288), scale_factor=(1 / 3, 0.5)))
    ids = 10 + cells.repeat_interleave(8, 0).repeat_interleave(12, 1)[None].int()
    infos = []
    for index, label in enumerate(_LABELS):
        x1, y1, x2, y2 = (boxes[index] * torch.tensor([3, 2, 3, 2])).tolist()
        info = dict(id=10 + index, label=label, is_thing=label < 7, iscrowd=0, bbox=[x1, y1, x2 - x1, y2 - y1])
        infos.append(info | dict(area=int((ids == 10 + index).sum())))
    sample.gt_panoptic_seg = PixelData(sem_seg=ids, metainfo=dict(segments_info=infos))
    return model, sample


def quality(result: DetDataSample) -> float:
    truth, found = result.gt_panoptic_seg, result.pred_panoptic_seg
    matches = match_segments(
        truth.sem_seg[0].numpy(), truth.segments_info, found.sem_seg[0].numpy(), found.segments_info, 13, 'image'
    )
    categories = [dict(id=i, label=i, name=str(i), isthing=int(i < 7)) for i in range(13)]
    return average(accumulate([matches], 13), categories)['pq']


@pytest.mark.parametrize('down', [False, True])
def test_oracle_with_perfect_embeddings_is_perfect(monkeypatch, down):
    model, sample = perfect(monkeypatch, down, oracle=True)
    (result,) = predict(model, dict(inputs=[torch.zeros(3, 64, 96)], data_samples=[sample]))
    assert quality(result) == 1
    segments = result.pred_panoptic_seg.segments_info
    assert [(s['label'], s['instance']) for s in segments] == [(2, 0), (2, 1), (0, 2), (7, None), (12, None)]


@pytest.mark.parametrize('down', [False, True])
@pytest.mark.parametrize('corner', [False, True])
def test_detections_on_any_pixel_of_their_segment_are_perfect(monkeypatch, down, corner):
    model, sample = perfect(monkeypatch, down)
    boxes = bands(down)[1][[1, 2, 4]].float()
    # The middle of the mask, or its last pixel: that one is the neighbour's by three eighths, and its own by five.
    points = boxes[:, 2:].long() - 1 if corner else boxes.view(-1, 2, 2).mean(1).long()
    scores = torch.tensor([0.9, 0.8, 0.7])
    found = InstanceData(bboxes=boxes, labels=torch.tensor([2, 2, 0]), scores=scores, points=points)
    monkeypatch.setattr(model.bbox_head, 'detect', lambda outputs, metas: [found])
    (result,) = predict(model, dict(inputs=[torch.zeros(3, 64, 96)], data_samples=[sample]))
    assert quality(result) == 1


def test_annotated_instances():
    """An original of 4x6 pixels for an input of 8x12, and one of 4x3."""
    embedding = torch.zeros(2, 2, 3)
    embedding[0, :, 0], embedding[1, :, 1:] = 3, 1
    ids = torch.tensor([[5, 5, 6, 6, 6, 6], [5, 5, 6, 6, 6, 6], [7, 7, 7, 8, 8, 8], [0, 7, 7, 8, 8, 8]])
    infos = [
        dict(id=5, label=1, is_thing=True, iscrowd=0, bbox=[0, 0, 2, 2]),
        dict(id=6, label=0, is_thing=True, iscrowd=0, bbox=[2, 0, 4, 2]),
        dict(id=7, label=2, is_thing=True, iscrowd=1, bbox=[0, 2, 3, 2]),
        dict(id=8, label=9, is_thing=False, iscrowd=0, bbox=[3, 2, 3, 2]),
    ]
    sample = DetDataSample(metainfo=dict(img_shape=(8, 12), ori_shape=(4, 6), img_path='a.png'))
    sample.gt_panoptic_seg = PixelData(sem_seg=ids[None], metainfo=dict(segments_info=infos))
    found = annotated_instances(sample, embedding)
    assert found.bboxes.tolist() == [[0, 0, 4, 4], [4, 0, 12, 4]]
    assert found.labels.tolist() == [1, 0] and found.scores.tolist() == [1, 1]
    # Columns 0 to 3 of the enlarged map: 0, 0, 1/8 and 3/8 of the second centre; means before they are normalised.
    first = F.normalize(torch.tensor([3 * 3.5 / 4, 0.5 / 4]), dim=0)
    second = F.normalize(torch.tensor([3 * 0.5 / 8, 7.5 / 8]), dim=0)
    torch.testing.assert_close(found.embeddings, torch.stack([first, second]))
    narrow = sample.clone()
    narrow.set_metainfo(dict(ori_shape=(4, 3)))
    halves = [{**info, 'bbox': [x / 2, y, w / 2, h]} for info in infos for x, y, w, h in [info['bbox']]]
    narrow.gt_panoptic_seg = PixelData(sem_seg=ids[None, :, ::2], metainfo=dict(segments_info=halves))
    torch.testing.assert_close(annotated_instances(narrow, embedding).bboxes, found.bboxes)
    padded = F.pad(embedding[None], (0, 2, 0, 1), mode='replicate')[0]  # at the right and at the bottom
    torch.testing.assert_close(annotated_instances(sample, padded).embeddings, found.embeddings)

    # At a quarter of the size, the centres of pixels of the input lie in the second row and the second column.
    sample.set_metainfo(dict(img_shape=(1, 1)))
    infos[0]['bbox'], ids[:] = [0, 0, 1, 1], 6
    ids[0, 0] = 5
    found = annotated_instances(sample, embedding)
    assert found.labels.tolist() == [0] and torch.isfinite(found.embeddings).all()

    infos.clear()
    ids[:] = 0
    empty = annotated_instances(sample, embedding)
    assert len(empty) == 0 and empty.bboxes.shape == (0, 4) and empty.embeddings.shape == (0, 2)
    del sample.gt_panoptic_seg
    with pytest.raises(UserError, match=r'a\.png: the oracle needs ground truth'):
        annotated_instances(sample, embedding)
