"""Arguments with a few possible values."""

import pytest

from mmpanoptic.utils import require_choice


def test_choices():
    require_choice('fuse', 'max', ('max', 'sum'))
    require_choice('fuse', None, ('max', None))
    with pytest.raises(ValueError, match=r"^fuse 'mean' is none of max, None$"):
        require_choice('fuse', 'mean', ('max', None))
