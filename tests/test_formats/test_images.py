"""Image files that end too early."""

import pytest

from mmpanoptic.formats.images import check_complete
from mmpanoptic.utils import DatasetError


def test_check_complete_looks_for_the_end_of_the_last_scan():
    end, scan, other = b'\xff\xd9', b'\xff\xda', b'\xff\xd8\xff\xe1'
    check_complete(other + scan + end, 'x')
    check_complete(other + scan + end + scan + end, 'x')
    for data in (b'', other + scan, other + scan + end + scan + b'123', b'\x89PNG\r\n\x1a\n 123'):
        with pytest.raises(DatasetError, match=rf'x is truncated \({len(data)} bytes, no end marker\)'):
            check_complete(data, 'x')
