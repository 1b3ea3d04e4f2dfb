import pytest
from fixtures.tiny_model import SHAPES
from helpers.repo import ROOT, load_tool, run_main

from mmpanoptic.utils import UserError

TOOL = load_tool('analysis_tools/get_flops')


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> None:
    monkeypatch.setenv('COLUMNS', '100')
    run_main(TOOL, monkeypatch, ROOT / SHAPES, *args)


def test_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    run(monkeypatch, '--shape', '90', '128')
    printed = capsys.readouterr().out
    assert 'an image of 90x128, padded to 96x128' in printed
    rows = [[cell.strip() for cell in line.split('│')[1:-1]] for line in printed.splitlines() if line.startswith('│')]
    table = {name: (float(giga), int(parameters.replace(',', ''))) for name, giga, parameters in rows}
    assert set(table) == {
        'backbone', 'neck', 'rpn_head', 'roi_head.bbox_head', 'roi_head.mask_head', 'semantic_head', 'total'
    }  # fmt: skip
    # As many boxes (200) and masks (100) as the config allows, although the weights are random.
    assert table['roi_head.bbox_head'][0] == round(200 * (64 * 49 * 256 + 256 * 256 + 256 * 36) / 1e9, 3)
    assert table['roi_head.mask_head'][0] == round(100 * 196 * 64 * (2 * 9 * 64 + 4 * 64 + 4 * 7) / 1e9, 3)
    places = sum(24 * 32 // 4**level for level in range(4)) + 2 * 2
    assert table['rpn_head'][0] == round(places * 64 * (9 * 64 + 15) / 1e9, 3)
    assert table['rpn_head'][1] == 64 * (9 * 64 + 15) + 64 + 15
    parts = [values for name, values in table.items() if name != 'total']
    assert table['total'][1] == sum(parameters for _, parameters in parts)
    assert table['total'][0] == pytest.approx(sum(giga for giga, _ in parts), abs=0.004)


def test_keep_all():
    config = dict(
        test_cfg=dict(rpn=dict(nms=dict(type='nms', iou_threshold=0.7)), max_per_img=5), fusion=dict(score_thr=0.3)
    )
    TOOL.keep_all(config)
    assert config['test_cfg'] == dict(rpn=dict(nms=dict(type='nms', iou_threshold=1.0)), max_per_img=5)
    assert config['fusion'] == dict(score_thr=0.0)


def test_shape_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match='--shape 0 10'):
        run(monkeypatch, '--shape', '0', '10')
