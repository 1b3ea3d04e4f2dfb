"""What a checkpoint must hold to be used: weights by name, finite values."""

import pytest
import torch

from mmpanoptic.engine.checkpoints import class_names, first_not_finite, weights_and_meta
from mmpanoptic.utils import UserError

ONE = torch.ones(1)


def test_weights_and_meta():
    weights, meta = weights_and_meta(dict(state_dict={'module.a': ONE}, meta=dict(epoch=1)), 'x.pth')
    assert weights == dict(a=ONE) and meta == dict(epoch=1)
    assert weights_and_meta(dict(a=ONE), 'x.pth') == (dict(a=ONE), {})
    assert weights_and_meta(dict(state_dict=dict(a=ONE), meta=None), 'x.pth') == (dict(a=ONE), {})


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ([ONE], 'holds a list, not the weights'),
        (ONE, 'holds a Tensor, not the weights'),
        (dict(state_dict=[ONE]), 'holds a list, not the weights'),
        ({1: ONE}, 'holds a Tensor as 1, not the weights'),
        (dict(model=dict(a=ONE)), "holds a dict as 'model', not the weights"),
        (dict(state_dict=dict(a=ONE), meta=[1]), 'has meta that is no dict'),
        (dict(state_dict=dict(a=ONE), meta=dict(dataset_meta=[1])), 'has meta that is no dict, or dataset_meta'),
    ],
)
def test_other_contents_are_one_line(content, words):
    with pytest.raises(UserError, match=rf'^x\.pth {words}'):
        weights_and_meta(content, 'x.pth')


@pytest.mark.parametrize(
    ('meta', 'names'),
    [
        (dict(dataset_meta=dict(classes=('a', 'b'))), ('a', 'b')),
        (dict(dataset_meta=dict(CLASSES=['a', 'b'])), ('a', 'b')),  # mmdet 3.0rc
        (dict(CLASSES=('a', 'b'), PALETTE=None), ('a', 'b')),  # mmdet 2.x
        (dict(dataset_meta=None, CLASSES=None), ()),
        (dict(CLASSES='person'), ()),
        (dict(CLASSES=[1, 2]), ()),
        ({}, ()),
    ],
)
def test_names_of_classes(meta, names):
    assert class_names(meta) == names


NAN = torch.tensor([1.0, float('nan')])


@pytest.mark.parametrize(
    ('content', 'name'),
    [
        (dict(a=ONE, b=dict(c=[ONE, NAN]), d=NAN), 'b.c.1'),
        (dict(a=(ONE, NAN)), 'a.1'),
        (dict(a=torch.tensor([complex(1, float('inf'))])), 'a'),
        (dict(a=NAN.half(), b=NAN), 'a'),
        (dict(a=ONE, b=torch.arange(3), c=float('nan')), None),
        ({'a.b': ONE, 'a': dict(b=NAN)}, 'a.b'),
        (dict(a=ONE.to(torch.float8_e5m2), b=NAN.to(torch.float8_e5m2)), 'b'),
        ({}, None),
    ],
)
def test_first_value_that_is_not_finite(content, name):
    assert first_not_finite(content) == name


def test_containers_that_hold_themselves():
    content = dict(a=ONE)
    content['b'] = content
    assert first_not_finite(content) is None
