"""Starting from a checkpoint with other classes: which slices of which layers go where, in every system."""

import pytest
import torch
from helpers.models import build_model, load_config

from mmpanoptic.engine.class_layers import Classes, Slice, Special, class_tensors
from mmpanoptic.engine.class_transfer import check_mapping, report, split_classes, transfer
from mmpanoptic.utils import UserError

OURS = Classes(('person', 'rider', 'car'), ('road', 'sky'))
THEIRS = Classes(('car', 'dog', 'person', 'cat'), ('sky', 'grass', 'road'))
RIDER = dict(rider='person')


def build(name: str, classes: Classes, **options):
    """A model of Shapes for these numbers of classes, all of its numbers different."""
    things, stuff = len(classes.things), len(classes.stuff)
    config = load_config(name)
    fields = {'num_things_classes': things, 'num_stuff_classes': stuff}
    for part in ('semantic_head', 'panoptic_fusion_head'):
        if part in config.model:
            config.model[part].update(fields)
    heads = config.model.get('roi_head', config.model)
    for part in ('bbox_head', 'mask_head'):
        if part in heads:
            heads[part].num_classes = things
    config.merge_from_dict(options)
    model = build_model(config)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.arange(value.numel()).reshape(value.shape) + 1e4 * (len(name) % 7))
    return model


SHAPES = {
    'panoptic_fpn': 'panoptic_fpn/panoptic-fpn_r18_fpn_shapes',
    'panet': 'panet/panet_r18_fpn_shapes',
    'spatialflow': 'spatialflow/spatialflow_r18_fpn_shapes',
    'oanet': 'oanet/oanet_r18_fpn_shapes',
    'ciae': 'ciae/ciae_r18_fpn_shapes',
}
PAIRS = [(0, 2), (1, 2), (2, 0)]  # person, rider from person, car
STUFF = [(0, 2), (1, 0)]  # road, sky
BOX = 'roi_head.bbox_head'
THINGS, THINGS_BACKGROUND = PAIRS, [*PAIRS, (3, 4)]
SIDES = [(4 * ours + side, 4 * theirs + side) for ours, theirs in PAIRS for side in range(4)]
ANCHORS = [(3 * anchor + ours, 4 * anchor + theirs) for anchor in range(9) for ours, theirs in PAIRS]
OTHER = [*STUFF, (2, 3)]
ALL = [*PAIRS, (3, 6), (4, 4)]
EXPECTED = {
    'panoptic_fpn': {
        f'{BOX}.fc_cls': THINGS_BACKGROUND,
        f'{BOX}.fc_reg': SIDES,
        'roi_head.mask_head.conv_logits': THINGS,
        'semantic_head.conv_logits': OTHER,
    },
    'panet': {f'{BOX}.fc_cls': THINGS_BACKGROUND, f'{BOX}.fc_reg': SIDES, 'roi_head.mask_head.conv_logits': THINGS},
    'spatialflow': {
        'bbox_head.retina_cls': ANCHORS,
        'mask_head.conv_logits': THINGS,
        'semantic_head.conv_logits': OTHER,
    },
    'oanet': {
        f'{BOX}.fc_cls': THINGS_BACKGROUND,
        f'{BOX}.fc_reg': SIDES,
        'roi_head.mask_head.conv_logits': THINGS,
        'semantic_head.conv_logits': ALL,
    },
    'ciae': {'bbox_head.conv_cls': THINGS},
}


def check_slices(result, mine, theirs, pairs):
    """Slices are where ``pairs`` say; the others are as they were."""
    assert result.shape == mine.shape
    taken = dict(pairs)
    for place in range(len(mine)):
        expected = theirs[taken[place]] if place in taken else mine[place]
        assert torch.equal(result[place], expected), place


@pytest.mark.parametrize('system', SHAPES)
def test_every_system(system):
    """All that is of no class is kept, and slices of classes go to the class of the same name, or of the mapping."""
    model, source = build(SHAPES[system], OURS), build(SHAPES[system], THEIRS)
    mine = {name: value.clone() for name, value in model.state_dict().items()}
    weights = {name: value + 0.5 if value.is_floating_point() else value for name, value in source.state_dict().items()}
    found = transfer(model, weights, OURS, THEIRS, RIDER)
    assert found.weights.keys() == mine.keys() and not found.unused and not found.left
    of_classes = {f'{layer}.{part}' for layer in EXPECTED[system] for part in ('weight', 'bias')}
    if system == 'ciae':
        of_classes.add('semantic_head.memory.embeddings')
        check_slices(*(x['semantic_head.memory.embeddings'] for x in (found.weights, mine, weights)), OTHER)
    if system == 'oanet':
        ranking = [name for name in mine if name.startswith('panoptic_fusion_head.ranking')]
        assert len(ranking) == 4
        of_classes.update(ranking)
        for name in ranking:
            expected = mine[name].clone()
            for here, there in PAIRS:
                if expected.dim() == 1:
                    expected[here] = weights[name][there]
                for here_in, there_in in PAIRS if expected.dim() > 1 else ():
                    expected[here, here_in] = weights[name][there, there_in]
            assert torch.equal(found.weights[name], expected)
    assert set(found.moved) == of_classes
    assert set(found.kept) == mine.keys() - of_classes
    for layer, pairs in EXPECTED[system].items():
        for part in ('weight', 'bias'):
            check_slices(*(x[f'{layer}.{part}'] for x in (found.weights, mine, weights)), pairs)
    for name in found.kept:
        assert torch.equal(found.weights[name], weights[name])
    names = dict(person='person', rider='person', car='car')
    stuff = {} if system == 'panet' else dict(road='road', sky='sky')
    assert found.sources == names | stuff and not found.random


@pytest.mark.parametrize('system', SHAPES)
def test_same_classes_are_kept_and_others_left(system):
    model, source = build(SHAPES[system], OURS), build(SHAPES[system], OURS)
    found = transfer(model, source.state_dict(), OURS, OURS)
    assert not found.moved and not found.left and len(found.kept) == len(found.weights)
    swapped = Classes(('rider', 'person', 'car'), ('sky', 'road'))  # of the same numbers: not to be kept as they are
    assert transfer(model, source.state_dict(), OURS, swapped).moved
    new = transfer(model, source.state_dict(), OURS, Classes(('a', 'b', 'c'), ('d', 'e')))
    assert set(new.random) == {*OURS.things, *(() if system == 'panet' else OURS.stuff)}
    assert new.left.keys() == {name for name, reason in new.left.items() if reason == 'no class of the same name'}
    for name in new.left:
        assert torch.equal(new.weights[name], model.state_dict()[name])


def test_semantics_of_all_things_as_one_and_of_each():
    """The other layout of a checkpoint is told by its number of channels."""
    name, head = SHAPES['spatialflow'], 'semantic_head.conv_logits.bias'
    merged, single = (build(name, OURS, **{'model.semantic_head.merge_things': merge}) for merge in (True, False))
    of_merged, of_single = (model.state_dict()[head] for model in (merged, single))
    assert (len(of_merged), len(of_single)) == (3, 5)
    found = transfer(merged, {head: of_single + 0.5}, OURS, OURS)
    assert found.weights[head].tolist() == [*(of_single[3:] + 0.5).tolist(), of_merged[2].item()]
    found = transfer(single, {head: of_merged + 0.5}, OURS, OURS)
    assert found.weights[head].tolist() == [*of_single[:3].tolist(), *(of_merged[:2] + 0.5).tolist()]


def test_memory_with_a_row_for_each_thing():
    name, rows = SHAPES['ciae'], 'semantic_head.memory.embeddings'
    kinds = ('merge', 'spec', 'none')
    models = {kind: build(name, OURS, **{'model.semantic_head.thing_categories': kind}) for kind in kinds}
    merge, spec, none = (models[kind].state_dict()[rows] + 0.5 for kind in kinds)
    assert (len(merge), len(spec), len(none)) == (3, 5, 2)
    found = transfer(models['spec'], {rows: merge}, OURS, OURS)
    assert torch.equal(found.weights[rows], torch.cat([merge[:2], spec[2:] - 0.5]))
    found = transfer(models['merge'], {rows: spec}, OURS, OURS)
    assert torch.equal(found.weights[rows], torch.cat([spec[:2], merge[2:] - 0.5]))
    assert list(found.random) == [], 'the row of all things is of no class'


def test_class_agnostic_layers_stay_so():
    name = SHAPES['panet']
    options = {'model.roi_head.bbox_head.reg_class_agnostic': True, 'model.roi_head.mask_head.class_agnostic': True}
    model, agnostic, named = build(name, OURS, **options), build(name, THEIRS, **options), build(name, THEIRS)
    layers = [f'{BOX}.fc_reg.bias', 'roi_head.mask_head.conv_logits.bias']
    kept = transfer(model, agnostic.state_dict(), OURS, THEIRS)
    assert set(layers) <= set(kept.kept)
    left = transfer(model, named.state_dict(), OURS, THEIRS)
    assert all(left.left[layer] == 'no class of the same name' for layer in layers)


def test_checkpoint_without_names():
    """What fits by its shape is kept."""
    model, source = build(SHAPES['panet'], OURS), build(SHAPES['panet'], THEIRS)
    found = transfer(model, source.state_dict(), OURS, None)
    assert not found.moved and found.left[f'{BOX}.fc_cls.bias'] == '(5,) in the checkpoint, (4,) in the model'
    assert not transfer(model, model.state_dict(), OURS, None).left


def test_other_layers():
    """Those that the model lacks, those that the checkpoint lacks, those of another width."""
    model = build(SHAPES['panet'], OURS)
    weights = dict(model.state_dict(), new=torch.zeros(3))
    weights.pop('rpn_head.rpn_conv.weight')
    weights['rpn_head.rpn_cls.weight'] = torch.zeros(9, 9)
    weights[f'{BOX}.fc_cls.weight'] = torch.zeros(4, 9)  # of the right classes, and of another input
    found = transfer(model, weights, OURS, OURS)
    assert found.unused == ['new']
    assert found.left['rpn_head.rpn_conv.weight'] == 'the checkpoint has none'
    assert found.left['rpn_head.rpn_cls.weight'].startswith('(9, 9) in the checkpoint')
    assert found.left[f'{BOX}.fc_cls.weight'].startswith('(4, 9) in the checkpoint')
    text = report(found, 'x.pth')
    assert text.splitlines()[0] == f'x.pth: {len(found.kept)} of {len(found.weights)} tensors are kept as they are'
    assert 'left as initialised (the checkpoint has none): rpn_head.rpn_conv' in text
    assert 'not in the model: new' in text


def test_things_are_told_from_stuff_by_shapes():
    """As in files of mmdet 2.x, which name all classes in a row."""
    source = build(SHAPES['panoptic_fpn'], THEIRS)
    names = (*THEIRS.things, *THEIRS.stuff)
    assert split_classes(names, source, source.state_dict()) == THEIRS
    boxes = build(SHAPES['panet'], THEIRS)
    assert split_classes(THEIRS.things, boxes, boxes.state_dict()) == Classes(THEIRS.things, ())


@pytest.mark.parametrize(
    ('mapping', 'words'),
    [
        (dict(ridder='person'), "the dataset to train on has no class 'ridder': did you mean 'rider'"),
        (dict(rider='persn'), "x.pth has no class 'persn': did you mean 'person'"),
        (dict(rider='qq'), "x.pth has no class 'qq': it has car, dog, person, cat, sky, grass, road"),
    ],
)
def test_names_of_a_mapping_that_nobody_has(mapping, words):
    with pytest.raises(UserError) as refused:
        check_mapping(mapping, OURS, THEIRS, 'x.pth')
    assert words in str(refused.value) and len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize('system', SHAPES)
def test_layouts_are_those_of_the_model(system):
    """As many slices as there are, and those of all classes."""
    model = build(SHAPES[system], OURS)
    for name, tensor in class_tensors(model).items():
        if (own := model.state_dict().get(name)) is not None:
            slices = tensor.layouts[0](OURS)
            assert len(slices) == len(own) == len(set(slices))
            assert all(isinstance(one, Slice) and isinstance(one.of, (str, Special)) for one in slices)
