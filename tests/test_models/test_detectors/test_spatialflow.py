"""SpatialFlow put together: what masks are trained on, nothing to find, several sizes, gradients."""

import math

import pytest
import torch
from helpers.models import count_parameters, load_config, on_meta, train_step
from helpers.repo import CONFIGS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.analysis.operations import count_multiply_adds
from mmpanoptic.models.detectors.spatialflow import match_things
from mmpanoptic.registry import MODELS, TASK_UTILS

SIZES = (64, 96), (96, 64)


def build(**changes) -> torch.nn.Module:
    """The model for Shapes: levels P2 to P5, a stuff head that ends at stride 2."""
    config = load_config('spatialflow/spatialflow_r18_fpn_shapes')
    config.merge_from_dict(dict(model=changes))
    set_random_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    return model


@pytest.fixture(scope='module')
def model() -> torch.nn.Module:
    return build()


def batch(*nums: int) -> dict:
    """Data as it leaves the data loader, with so many things an image."""
    inputs, samples = [], []
    for index, num in enumerate(nums):
        size = SIZES[index % 2]
        generator = torch.Generator().manual_seed(index)
        inputs.append(torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8))
        sample = DetDataSample(
            metainfo=dict(img_shape=size, ori_shape=(2 * size[0], 2 * size[1]), scale_factor=(0.5, 0.5))
        )
        boxes = torch.tensor([[8.0 * i, 4, 8 * i + 30, 40] for i in range(num)]).reshape(-1, 4)
        masks = BitmapMasks(torch.ones(num, *size, dtype=torch.uint8).numpy(), *size)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.arange(num), masks=masks)
        sample.ignored_instances = sample.gt_instances[:0]
        sample.gt_sem_seg = PixelData(sem_seg=torch.full((1, *size), 8))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def test_masks_are_trained_on_annotated_boxes_when_nothing_is_detected(model):
    seen = []
    handle = model.mask_head.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    values = train_step(model, batch(2, 1))
    handle.remove()
    assert seen == [3], 'the first scores are below 0.05'
    assert values['loss_mask'] > 0


@pytest.mark.parametrize('nums', [(0,), (0, 2)])
def test_trains_without_things(model, nums):
    """Every parameter gets a gradient all the same, without which DDP would wait for ever."""
    values = train_step(model, batch(*nums))
    assert values['loss_seg'] > 0
    if not any(nums):
        assert values['loss_bbox'] == values['loss_mask'] == 0


def test_deformable_variant_trains():
    train_step(build(bbox_head=dict(deformable=('cls', 'stuff', 'thing'), norm_cfg=None)), batch(1))


@pytest.mark.parametrize(
    'changes',
    [
        dict(bbox_head=dict(num_panoptic_levels=2)),
        dict(mask_roi_extractor=dict(featmap_strides=[4, 8])),
        dict(semantic_head=dict(num_levels=2)),
    ],
)
def test_levels_must_be_as_many_everywhere(changes):
    numbers = [2 if part in changes else 3 for part in ('bbox_head', 'mask_roi_extractor', 'semantic_head')]
    message = '{} in bbox_head, mask_roi_extractor has {} .*, num_levels is {} in semantic_head'.format(*numbers)
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_thresholds_of_fusion_are_arguments_of_its_head():
    head = build(panoptic_fusion_head=dict(score_thr=0.11, box_fill_thr=0.22)).panoptic_fusion_head
    assert (head.score_thr, head.box_fill_thr, head.overlap_thr) == (0.11, 0.22, 0.37)


def test_masks_are_trained_on_detections_that_match_an_object(monkeypatch):
    """And on no others; boxes do not learn from masks, but the features of regression do, along the flows."""
    model = build(train_cfg=dict(proposal=dict(max_per_img=90))).train()  # not what testing has
    torch.nn.init.zeros_(model.bbox_head.retina_cls.bias)  # scores of about .5: anchors, hardly moved, are detected
    detect, found, rois = model.bbox_head.detect, [], []
    monkeypatch.setattr(model.bbox_head, 'detect', lambda *args: found.extend(detect(*args)) or found)
    model.mask_roi_extractor.register_forward_pre_hook(lambda _, args: rois.append(args[1]))
    data = model.data_preprocessor(batch(2, 1), training=True)
    losses = model(**data, mode='loss')

    expected = []
    for index, (proposals, sample) in enumerate(zip(found, data['data_samples'], strict=True)):
        annotated = sample.gt_instances.bboxes
        matching = proposals.bboxes[bbox_overlaps(proposals.bboxes, annotated).amax(dim=1) >= 0.5]
        assert 0 < len(matching) < len(proposals) == 90
        assert (proposals.scores > 0.05).all()
        for label in range(7):
            same = proposals.bboxes[proposals.labels == label]
            assert (bbox_overlaps(same, same).fill_diagonal_(0) <= 0.4).all()
        boxes = torch.cat([annotated, matching])
        expected.append(torch.cat([torch.full((len(boxes), 1), float(index)), boxes], dim=1))
    (rois,) = rois
    assert torch.equal(rois, torch.cat(expected))
    assert not rois.requires_grad

    head = model.bbox_head
    outputs, inner = (head.retina_reg.weight, head.retina_cls.weight), head.reg_convs[0].conv.weight
    assert losses['loss_mask'] > 0
    *none, some = torch.autograd.grad(losses['loss_mask'], [*outputs, inner], allow_unused=True)
    assert none == [None, None] and some.any()


def test_ranking_may_learn_from_what_is_detected(monkeypatch):
    """Masks of the size of the input, not of the original image; no gradient leaves them."""
    classes = dict(num_things_classes=7, num_stuff_classes=6)
    model = build(
        panoptic_fusion_head=dict(
            _delete_=True, type='RankingFusion', train_input='pred', score_thr=0.0, stride=4, **classes
        )
    )
    torch.nn.init.zeros_(model.bbox_head.retina_cls.bias)
    predict_five(model, monkeypatch)
    seen, predict = [], model._predict_instances
    monkeypatch.setattr(model, '_predict_instances', lambda *a, **kw: seen.extend(predict(*a, **kw)) or seen)
    values = train_step(model, batch(2, 1))
    assert [its.masks.shape for its in seen] == [(5, *size) for size in SIZES]
    assert not any(its.bboxes.requires_grad for its in seen)
    assert values['loss_ranking'] >= 0


def test_mask_loss_at_zero_logits():
    model = build()
    for parameter in model.mask_head.conv_logits.parameters():
        torch.nn.init.zeros_(parameter)
    assert train_step(model, batch(2, 1))['loss_mask'].item() == pytest.approx(math.log(2), abs=1e-6)


def test_things_are_matched_with_annotated_boxes_first():
    assigner = TASK_UTILS.build(dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5))
    objects = InstanceData(bboxes=torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), labels=torch.tensor([4, 2]))
    proposals = torch.tensor([[20.0, 20, 30, 27], [50, 50, 60, 60], [0, 0, 10, 4]])
    result = match_things(proposals, objects, assigner)
    assert result.pos_priors.tolist() == [[0, 0, 10, 10], [20, 20, 30, 30], [20, 20, 30, 27]]
    assert result.pos_assigned_gt_inds.tolist() == [0, 1, 1]
    assert result.pos_gt_labels.tolist() == [4, 2, 2]
    assert result.pos_is_gt.tolist() == [1, 1, 0]
    assert not len(result.neg_priors)
    assert not len(match_things(proposals, objects[:0], assigner).pos_priors)


def test_roi_levels():
    rois = torch.tensor([[0.0, 0, 0, side, side] for side in (111, 112, 223, 224, 500)])
    config = Config.fromfile(CONFIGS / 'spatialflow/spatialflow_r50_fpn_20e_coco.py')
    init_default_scope(config.default_scope)
    extractor = MODELS.build(config.model.mask_roi_extractor)
    assert extractor.map_roi_levels(rois, 3).tolist() == [0, 1, 1, 2, 2]
    assert extractor.featmap_strides == [8, 16, 32]


def predict_five(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it find five things in every image."""
    for cfg in (model.test_cfg, model.bbox_head.test_cfg):
        monkeypatch.setitem(cfg, 'score_thr', 0.0)
        monkeypatch.setitem(cfg, 'max_per_img', 5)


def test_images_of_several_sizes_are_predicted(model, monkeypatch):
    model.eval()
    data = batch(0, 0)
    with torch.no_grad():
        few = model.test_step(data)
        predict_five(model, monkeypatch)
        many = model.test_step(batch(0, 0))
        inputs = model.data_preprocessor(batch(0), training=False)
        outputs = model(inputs['inputs'], inputs['data_samples'], mode='tensor')
    for results, num in ((few, 0), (many, 5)):
        for result, size in zip(results, SIZES, strict=True):
            size = (2 * size[0], 2 * size[1])
            assert result.pred_panoptic_seg.sem_seg.shape == (1, *size)
            assert result.pred_instances.masks.shape == (num, *size)
            assert (result.pred_instances.bboxes >= 0).all()
            assert (result.pred_instances.bboxes <= max(size)).all()
    assert outputs[2].shape == (5, 7, 28, 28)
    assert outputs[3].shape == (1, 7, 32, 48)


@torch.no_grad()
@pytest.mark.parametrize('resize', ['labels', 'logits'])
def test_images_of_a_batch_do_not_disturb_each_other(monkeypatch, resize):
    """Each is predicted as alone, if it is padded to the same size then: padding, too, counts in group norm."""
    model = build().eval()
    predict_five(model, monkeypatch)
    model.data_preprocessor.pad_size_divisor = 96
    model.semantic_head.resize = resize
    fusion = model.panoptic_fusion_head
    fusion.score_thr, fusion.stuff_area_limit = 0.0, 20
    for name, std in (('bbox_head.retina_cls', 0.1), ('bbox_head.retina_reg', 0.1), ('mask_head.conv_logits', 0.5)):
        torch.nn.init.normal_(model.get_submodule(name).weight, std=std)
    together = model.test_step(batch(0, 0))
    for index, result in enumerate(together):
        (alone,) = model.test_step({key: values[index : index + 1] for key, values in batch(0, 0).items()})
        for key in ('bboxes', 'scores', 'labels'):
            torch.testing.assert_close(result.pred_instances[key], alone.pred_instances[key], rtol=1e-4, atol=1e-3)
        ours, theirs = (one.pred_panoptic_seg.sem_seg for one in (result, alone))
        assert ours.shape == theirs.shape == (1, *result.ori_shape) and len(ours.unique()) > 2
        for a, b in ((ours, theirs), (result.pred_instances.masks, alone.pred_instances.masks)):
            assert (a != b).float().mean() < 1e-3  # equals but for rounding


TOTALS = {
    'spatialflow_r50_fpn_20e_coco': 50_798_778,
    'spatialflow_r101_fpn_20e_coco': 69_790_906,
    'ablations/table5_naive': 41_947_578,
    'ablations/table5_subnets': 44_897_978,
    'ablations/table12_retinanet': 37_968_692,
}


@pytest.mark.parametrize('name', TOTALS)
def test_parameters(name):
    assert count_parameters(on_meta(MODELS.build, load_config(f'spatialflow/{name}').model)) == TOTALS[name]


@pytest.mark.parametrize(('name', 'giga'), [('spatialflow_r50_fpn_20e_coco', 511.9), ('ablations/table5_naive', 316.0)])
def test_operations_at_800_by_1344(name, giga):
    """Of the whole network, with masks for 100 boxes."""
    model = on_meta(MODELS.build, load_config(f'spatialflow/{name}').model)

    def run() -> None:
        _, stuff = model.extract_feats(torch.zeros(1, 3, 800, 1344, device='meta'))
        model.semantic_head(stuff)
        model.mask_head(torch.zeros(100, 256, 14, 14, device='meta'))

    assert sum(count_multiply_adds(model, run).values()) / 1e9 == pytest.approx(giga, abs=0.06)
