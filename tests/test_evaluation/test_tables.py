"""Scores as tables: one unit, every metric, nothing twice."""

import math

from mmpanoptic.evaluation.tables import ClassScores, class_table, closing_tables, score_line, score_table

SCORES = {
    'panoptic/PQ': 12.24, 'panoptic/SQ': 70.0, 'panoptic/RQ': 15.0, 'panoptic/PQ_th': 8.0, 'panoptic/PQ_st': 20.0,
    'coco/bbox_mAP': 0.0104, 'coco/bbox_mAP_50': 0.5, 'coco/bbox_mAP_l': -1.0, 'coco/segm_mAP': 0.25,
    'semantic/mIoU': 33.333, 'cityscapes/AP': 7.5, 'coco/cat_precision': 0.1, 'cityscapes/AP_cat': 3.0,
}  # fmt: skip


def rows(table: str) -> list[list[str]]:
    cells = ([cell.strip() for cell in line.strip('│┃').replace('┃', '│').split('│')] for line in table.splitlines())
    return [row for row in cells if len(row) > 1]


def test_one_table_in_per_cent():
    assert rows(score_table(SCORES)) == [
        ['%', 'all', 'things', 'stuff'],
        ['PQ', '12.24', '8.00', '20.00'],
        ['SQ', '70.00', '', ''],
        ['RQ', '15.00', '', ''],
        ['box AP', '', '1.04', ''],
        ['box AP50', '', '50.00', ''],
        ['box AP, large', '', '-', ''],
        ['mask AP', '', '25.00', ''],
        ['mIoU', '33.33', '', ''],
        ['Cityscapes AP', '', '7.50', ''],
    ]


def test_scores_of_unknown_units_are_as_they_are():
    table = score_table({'panoptic/PQ': 1.0, 'mine/speed': 3.14159})
    assert table.splitlines()[-1] == 'mine/speed: 3.14159'
    assert score_table({'mine/speed': 3}) == 'mine/speed: 3'


def test_the_same_score_of_two_datasets_is_not_lost():
    assert score_table({'a/mIoU': 1.0, 'b/mIoU': 2.0}).splitlines()[-1] == 'b/mIoU: 2.0'


def test_classes_of_all_metrics_are_one_table():
    quality = ClassScores({'PQ': {'cat': 50.0, 'sky': 25.0}, 'FN': {'cat': 2, 'sky': 0}}, {'PQ': 37.5})
    precision = ClassScores({'box AP': {'cat': math.nan}}, {'box AP': 0.0})
    wanted = [
        ['class, %', 'PQ', 'FN', 'box AP'],
        ['cat', '50.00', '2', '-'],
        ['sky', '25.00', '0', ''],
        ['mean', '37.50', '', '0.00'],
    ]
    assert rows(class_table([quality, precision])) == [*wanted[:3], wanted[3]]
    both = closing_tables({'panoptic/PQ': 37.5}, [quality, precision])
    assert both == class_table([quality, precision]) + '\n' + score_table({'panoptic/PQ': 37.5})
    assert closing_tables({'panoptic/PQ': 37.5}) == score_table({'panoptic/PQ': 37.5})


def test_a_line_for_a_validation():
    line = 'PQ 12.24 (things 8.00, stuff 20.00)  box AP 1.04  mask AP 25.00  Cityscapes AP 7.50  mIoU 33.33'
    assert score_line(SCORES) == line
    assert score_line({'n': 0.123456}) == 'n 0.1235'
