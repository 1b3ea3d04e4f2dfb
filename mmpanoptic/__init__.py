"""mmpanoptic: PANet, SpatialFlow, OANet, CIAE and Panoptic FPN on MMDetection 3.x.

Importing this package prints nothing; mmdet's import-time notices are dropped here, once, because ``mmdet`` is
imported all over the package and there is no later point at which they could be caught.
"""

import contextlib
import io
import sys
import warnings

__version__ = '0.1.0'
__all__ = ['__version__']


def _import_mmdet_quietly() -> None:
    """Import ``mmdet.datasets``, passing on whatever it prints except the notice that OneDL is not installed."""
    captured = io.StringIO()
    with contextlib.redirect_stdout(captured):
        import mmdet.datasets  # noqa: F401
    for line in captured.getvalue().splitlines():
        if 'OneDL' not in line:
            print(line, file=sys.stderr)


_import_mmdet_quietly()
# mmdet.evaluation warns of it on import, of a metric that nothing here uses.
warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')
