"""OANet: what its parts share, what they learn from, and the person and tie of the paper."""

import copy
import math

import pytest
import torch
from helpers.models import demo_batch, load_config
from mmdet.structures import DetDataSample
from mmengine.runner import set_random_seed
from mmengine.structures import InstanceData

from mmpanoptic.registry import MODELS
from mmpanoptic.structures import INSTANCE_OFFSET


@pytest.fixture(scope='module')
def config():
    return load_config('oanet/oanet_r18_fpn_shapes')


def build(config, **changes):
    set_random_seed(0)
    return MODELS.build({**copy.deepcopy(config.model), **changes})


@pytest.mark.parametrize('share', ['none', 'backbone', 'neck'])
def test_what_is_shared(config, share):
    """The stuff loss reaches the instances' backbone or neck only where they are shared."""
    model = build(config, share=share)
    data = model.data_preprocessor(demo_batch(config), training=True)
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
    data = model.data_preprocessor(demo_batch(config), training=True)
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
    data = model.data_preprocessor(demo_batch(config), training=False)
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
    data = model.data_preprocessor(demo_batch(config), training=True)
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
    data = model.data_preprocessor(demo_batch(config), training=True)
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
