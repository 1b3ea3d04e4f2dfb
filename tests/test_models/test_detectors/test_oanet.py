"""OANet's stuff branch, what its parts share, and the hook that says when the ranking learns nothing."""

import copy
import logging
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers.repo import ROOT
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmengine.structures import InstanceData, PixelData
from test_configs.test_every_config import batch
from torch.utils.flop_counter import FlopCounterMode

from mmpanoptic.analysis.operations import count_multiply_adds
from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.engine.hooks import RankingConflictHook
from mmpanoptic.models import OANetStuffHead, SpatialRankingModule
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import INSTANCE_OFFSET

FULL = (200, 336)  # stride 4 of 800x1344


def giga_macs(module, *args):
    """Multiply-adds in 10^9, without computing anything."""
    with FlopCounterMode(display=False) as counter:
        module.to('meta')(*args)
    return counter.get_total_flops() / 2e9


def levels(channels, size, count=5, device='cpu'):
    return tuple(
        torch.rand(1, channels, math.ceil(size[0] / 2**i), math.ceil(size[1] / 2**i), device=device)
        for i in range(count)
    )


@pytest.fixture(scope='module')
def config():
    config = Config.fromfile(ROOT / 'configs/oanet/oanet_r18_fpn_shapes.py')
    init_default_scope(config.default_scope)
    return config


def build(config, **changes):
    set_random_seed(0)
    return MODELS.build({**copy.deepcopy(config.model), **changes})


def samples_of(labels):
    sample = DetDataSample()
    sample.gt_sem_seg = PixelData(sem_seg=torch.tensor(labels, dtype=torch.uint8)[None])
    return [sample]


def test_stuff_head_has_the_parameters_and_operations_of_the_specification():
    head = OANetStuffHead()
    assert sum(p.numel() for p in head.parameters()) == 2378757
    assert giga_macs(head, levels(256, FULL, device='meta')) == pytest.approx(80.3, abs=0.05)


@pytest.mark.parametrize(
    ('kernel', 'dual', 'stride', 'expected'),
    [
        ('1x7+7x1', False, 1, 96.3),
        ('1x7+7x1', False, 2, 24.1),
        ('1x7+7x1', False, 4, 6.0),
        ('1x7+7x1', True, 1, 192.7),
        ('1x7+7x1', True, 2, 48.2),
        ('1x7+7x1', True, 4, 12.0),
        ('3x3', False, 1, 61.9),
        ('1x1', False, 1, 6.9),
    ],
)
def test_ranking_module_operations(kernel, dual, stride, expected):
    tensor = torch.zeros(1, 80, 800 // stride, 1344 // stride, device='meta')
    module = SpatialRankingModule(80, kernel, dual).to('meta')
    assert giga_macs(module, tensor) == pytest.approx(expected, abs=0.06)
    for classes in (None, torch.arange(80, device='meta')):  # as get_flops.py counts, too
        counts = count_multiply_adds(module, lambda classes=classes: module(tensor, classes))
        assert sum(counts.values()) / 1e9 == pytest.approx(expected, abs=0.06)


def test_stuff_loss_at_zero_logits_and_its_weight():
    """The mean over what is not void: ln 133 / 4; void is not counted."""
    head = OANetStuffHead(in_channels=32, inner_channels=32)
    torch.nn.init.zeros_(head.conv_logits.weight)
    torch.nn.init.zeros_(head.conv_logits.bias)
    x = levels(32, (16, 16), 4)
    labels = [[(r * 64 + c) % 133 if c < 32 else 255 for c in range(64)] for r in range(64)]
    assert head.loss(x, samples_of(labels))['loss_seg'].item() == pytest.approx(math.log(133) / 4, abs=1e-4)


def test_stuff_only_ignores_things():
    head = OANetStuffHead(3, 4, in_channels=32, inner_channels=32, seg_classes='stuff')
    assert head._targets(torch.tensor([0, 2, 3, 6, 255])).tolist() == [255, 255, 0, 3, 255]
    assert head(levels(32, (16, 16), 4))['seg_preds'].shape == (1, 4, 16, 16)
    assert OANetStuffHead(3, 4, 32, 32)._targets(torch.tensor([0, 6, 255])).tolist() == [0, 6, 255]
    with pytest.raises(ValueError, match='seg_classes'):
        OANetStuffHead(seg_classes='things')


def test_loss_is_of_every_fourth_label():
    torch.manual_seed(0)
    head = OANetStuffHead(3, 4, 32, 32)
    x = levels(32, (16, 16), 4)
    labels = torch.randint(7, (64, 64))
    expected = 0.25 * F.cross_entropy(head(x)['seg_preds'], labels[None, ::4, ::4])
    torch.testing.assert_close(head.loss(x, samples_of(labels.tolist()))['loss_seg'], expected)


def test_full_size_loss_upsamples_the_logits():
    torch.manual_seed(0)
    head = OANetStuffHead(3, 4, 32, 32, full_size_loss=True)
    x = levels(32, (16, 16), 4)
    labels = torch.randint(7, (64, 64))
    logits = F.interpolate(head(x)['seg_preds'], (64, 64), mode='bilinear', align_corners=False)
    expected = 0.25 * F.cross_entropy(logits, labels[None])
    torch.testing.assert_close(head.loss(x, samples_of(labels.tolist()))['loss_seg'], expected)


def test_stuff_prediction_is_the_stuff_part_of_the_logits_without_padding():
    torch.manual_seed(0)
    head = OANetStuffHead(3, 4, 32, 32).eval()
    x = levels(32, (16, 16), 4)
    metas = [dict(batch_input_shape=(64, 64), img_shape=(48, 64), ori_shape=(96, 128))]
    whole = F.interpolate(head(x)['seg_preds'][:, 3:], (64, 64), mode='bilinear', align_corners=False)
    (stuff,) = head.predict(x, metas)
    assert stuff.channels == 'stuff'
    torch.testing.assert_close(stuff.logits, whole[0, :, :48])
    expected = F.interpolate(whole[:, :, :48], (96, 128), mode='bilinear', align_corners=False)[0]
    torch.testing.assert_close(head.predict(x, metas, rescale=True)[0].logits, expected)


@pytest.mark.parametrize('share', ['none', 'backbone', 'neck'])
def test_what_is_shared(config, share):
    """The stuff loss reaches the instances' backbone or neck only where they are shared."""
    model = build(config, share=share)
    data = model.data_preprocessor(batch(config), training=True)
    features, stuff = model.extract_feats(data['inputs'])
    assert (stuff is features) == (share == 'neck')
    model.semantic_head.loss(stuff, data['data_samples'])['loss_seg'].backward()

    def has_gradient(module):
        return any(p.grad is not None for p in module.parameters())

    assert has_gradient(model.backbone) == (share != 'none')
    assert has_gradient(model.neck) == (share == 'neck')
    own = {'none': ('stuff_backbone', 'stuff_neck'), 'backbone': ('stuff_neck',), 'neck': ()}[share]
    for name in ('stuff_backbone', 'stuff_neck'):
        part = getattr(model, name)
        assert (part is not None) == (name in own)
        assert part is None or has_gradient(part)


@pytest.mark.parametrize(
    ('share', 'stuff_input'), [('none', 'fpn'), ('backbone', 'fpn'), ('neck', 'fpn'), ('neck', 'rpn_conv')]
)
def test_every_parameter_learns(config, share, stuff_input):
    model = build(config, share=share, stuff_input=stuff_input)
    data = model.data_preprocessor(batch(config), training=True)
    loss, values = model.parse_losses(model(**data, mode='loss'))
    assert values['conflict_pixels'] > 0
    loss.backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    parts = ('semantic_head', 'panoptic_fusion_head.ranking', 'stuff_neck', 'stuff_backbone')
    assert not [n for n, p in model.named_parameters() if n.startswith(parts) and not p.grad.any()]


def test_person_and_tie_through_the_detector(config):
    """Figure 7: detection scores .997 and .662; ranked at the input's size, the tie is on top in the original's."""
    person, tie = 0, 1
    fusion = dict(config.model.panoptic_fusion_head, ranking=dict(type='SpatialRankingModule', kernel='1x1'))
    model = build(config, panoptic_fusion_head=fusion).eval()
    conv = model.panoptic_fusion_head.ranking.branches[0][0]
    with torch.no_grad():  # .9 for the tie where there is one, .9 for the person elsewhere
        conv.weight.zero_()
        conv.weight[tie, tie] = 2 * math.log(9)
        conv.bias.copy_(torch.tensor([math.log(9), 0.0] + [-50.0] * (len(conv.bias) - 2)))
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 10:60, 10:50] = masks[1, 20:40, 25:35] = True
    found = InstanceData(
        bboxes=torch.tensor([[10.0, 10, 50, 60], [25, 20, 35, 40]]),
        labels=torch.tensor([person, tie]),
        scores=torch.tensor([0.997, 0.662]),
        masks=masks,
    )
    model.roi_head.predict = lambda *args, **kwargs: [found]
    meta = dict(img_shape=(128, 128), ori_shape=(64, 64), batch_input_shape=(128, 128), scale_factor=(2.0, 2.0))
    image, samples = torch.rand(1, 3, 128, 128), [DetDataSample(metainfo=meta)]
    with torch.no_grad():
        (evidence,) = model.evidence(image, samples)
        (result,) = model.predict(image, samples)
    labels = result.pred_panoptic_seg.sem_seg[0] % INSTANCE_OFFSET
    assert torch.equal(labels == tie, masks[1])
    assert torch.equal(labels == person, masks[0] & ~masks[1])
    scores = [segment['score'] for segment in result.pred_panoptic_seg.segments_info[:2]]
    assert scores == pytest.approx([0.662, 0.997])
    assert model.panoptic_fusion_head.ranking_scores(evidence).tolist() == pytest.approx([0.82, 0.9], abs=1e-4)


@pytest.mark.parametrize('rescale', [True, False])
def test_prediction_of_a_padded_batch(config, rescale):
    """Each map has the size of its image: the original one, or the one fed in without what the batch pads."""
    model = build(config).eval()
    data = model.data_preprocessor(batch(config), training=False)
    with torch.no_grad():
        results = model.predict(data['inputs'], data['data_samples'], rescale=rescale)
    sizes = [sample.ori_shape if rescale else sample.img_shape for sample in results]
    assert [tuple(sample.pred_panoptic_seg.sem_seg.shape[1:]) for sample in results] == sizes
    assert sizes[0] != sizes[1]


def test_stuff_branch_after_the_convolution_of_the_rpn(config):
    model = build(config, stuff_input='rpn_conv')
    features, stuff = model.extract_feats(torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(stuff[1], model.rpn_head.rpn_conv(features[1]).relu())
    with pytest.raises(ValueError, match='rpn_conv'):
        build(config, stuff_input='rpn_conv', share='backbone')
    with pytest.raises(ValueError, match='share'):
        build(config, share='all')


def test_training_on_predicted_masks(config):
    """Takes the detector's own instances, of the size of its input, and leaves every module in the mode it was in."""
    fusion = dict(config.model.panoptic_fusion_head, train_input='pred', score_thr=0.0)
    model = build(config, panoptic_fusion_head=fusion).train()
    model.roi_head.mask_head.eval()
    data = model.data_preprocessor(batch(config), training=True)
    modes = [module.training for module in model.modules()]
    instances = model.predict_instances(model.extract_feat(data['inputs']), data['data_samples'])
    assert [module.training for module in model.modules()] == modes
    assert len(instances) == 2 and len(instances[0])
    for its, sample in zip(instances, data['data_samples'], strict=True):
        assert its.masks.shape[1:] == sample.img_shape != sample.ori_shape
        assert not its.bboxes.requires_grad
    losses = model(**data, mode='loss')
    assert torch.isfinite(losses['loss_ranking'])
    assert losses['conflict_pixels'] > 0


def test_rpn_sees_no_classes(config):
    """Its losses are those of mmdet's own detector on the same batch."""
    from mmdet.models import TwoStagePanopticSegmentor

    model = build(config)
    data = model.data_preprocessor(batch(config), training=True)
    set_random_seed(1)
    ours = model.loss(data['inputs'], data['data_samples'])
    set_random_seed(1)
    theirs = TwoStagePanopticSegmentor.loss(model, data['inputs'], data['data_samples'])
    assert set(ours) - set(theirs) == {'loss_ranking', 'conflict_pixels'}
    for name, expected in theirs.items():
        for one, other in zip(
            *(value if isinstance(value, list) else [value] for value in (ours[name], expected)), strict=True
        ):
            torch.testing.assert_close(one, other)


@pytest.fixture(scope='module')
def shapes_datasets(tmp_path_factory):
    """Shapes with and without instances that overlap."""
    from mmpanoptic.datasets.shapes.writer import write_dataset

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


def test_only_an_instances_json_gives_conflicts(shapes_datasets, config):
    """Masks that are cut from the panoptic PNGs never overlap, so the ranking module would silently learn nothing."""
    head = MODELS.build(config.model.panoptic_fusion_head)
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
