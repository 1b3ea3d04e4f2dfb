"""Work on many items."""

import pytest

from mmpanoptic.utils import tracked_map


def test_tracked_map_keeps_the_order(capsys: pytest.CaptureFixture):
    assert list(tracked_map(abs, range(-20, 0), 2, 'Working')) == list(range(20, 0, -1))
    assert 'Working' in capsys.readouterr().out
