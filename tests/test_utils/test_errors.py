"""Errors that are the user's to mend."""

import pickle

import pytest

from mmpanoptic.utils import DatasetError, UserError


@pytest.mark.parametrize('kind', [UserError, DatasetError])
@pytest.mark.parametrize('argument', [None, 'trust_checkpoint'])
def test_both_parts_pass_from_process_to_process(kind, argument):
    error = pickle.loads(pickle.dumps(kind('a.png: broken', argument=argument)))
    assert type(error) is kind and isinstance(error, UserError)
    assert str(error) == 'a.png: broken' and error.argument == argument
