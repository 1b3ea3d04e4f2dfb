"""Tools that look at runs: curves, comparison, the whole config."""

import pytest
from fixtures.tiny_run import TinyRun
from helpers.repo import CONFIGS, load_tool, run_main
from mmengine.config import Config

CONFIG = CONFIGS / 'panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py'


def output(name, monkeypatch, capsys, *args) -> str:
    monkeypatch.setenv('COLUMNS', '160')
    run_main(load_tool(name), monkeypatch, *args)
    return capsys.readouterr().out


def test_a_printed_config_is_the_whole_one_and_can_be_read(tmp_path, monkeypatch, capsys):
    printed = output('misc/print_config', monkeypatch, capsys, CONFIG, '--cfg-options', 'train_cfg.max_epochs=7')
    (tmp_path / 'whole.py').write_text(printed)
    whole = Config.fromfile(tmp_path / 'whole.py')
    assert whole.train_cfg.max_epochs == 7 and whole.model.backbone.depth == 18
    assert '_base_' not in printed
    part = output('misc/print_config', monkeypatch, capsys, CONFIG, '--key', 'optim_wrapper.optimizer')
    assert part == "optimizer = dict(lr=0.001, type='AdamW', weight_decay=0.05)\n"
    assert output('misc/print_config', monkeypatch, capsys, CONFIG, '--key', 'train_cfg.max_epochs') == '3\n'


@pytest.mark.slow
def test_curves_and_comparison(tiny_run: TinyRun, tmp_path, monkeypatch, capsys):
    curves = tmp_path / 'new/curves.png'
    printed = output('analysis_tools/analyze_logs', monkeypatch, capsys, tiny_run.work_dir, '--out', curves)
    assert curves.stat().st_size > 1000
    assert '│ loss ' in printed and '│ panoptic/PQ ' in printed and f'Curves written to {curves}' in printed
    compared = output('analysis_tools/compare_runs', monkeypatch, capsys, tiny_run.work_dir, tiny_run.work_dir)
    assert 'The configs are the same.' in compared and '+0.0000' in compared
