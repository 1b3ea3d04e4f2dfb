"""What CIAE's ablations change, held against the paper's tables: the row's own value and nothing else.

What the config that they change says itself is tests/test_models/test_detectors/test_ciae.py's.
"""

import pytest
from fixtures.config_tables import check, check_that_noticed, names_in

COCO = 'ciae/ciae_r50_fpn_90k_coco'
SHAPES = 'ciae/ciae_r18_fpn_shapes'
TABLES = 'ciae/ablations/'
SPEC = {'model.semantic_head.thing_categories': 'spec'}
BY_EMBEDDING = {'model.panoptic_fusion_head.category_from': 'embedding'}
SEMANTIC_BRANCH = {'model.semantic_head.stuff_modeling': 'semseg'}
NO_COORDINATES = {'model.semantic_head.coord_conv': None}
R101 = {
    'model.backbone.depth': 101,
    'model.backbone.init_cfg.checkpoint': 'https://download.pytorch.org/models/resnet101-63fe2227.pth',
}


def boxes(dims):
    return {f'model.{head}.box_embedding_dims': dims for head in ('bbox_head', 'semantic_head')}


def loss(**options):
    return {f'model.semantic_head.loss.{name}': value for name, value in options.items()}


ROWS = {
    f'{TABLES}table1_semseg': (COCO, SEMANTIC_BRANCH),
    f'{TABLES}table2_none-spec-det': (COCO, {'model.semantic_head.thing_categories': 'none'}),
    f'{TABLES}table2_spec-merge-emb': (COCO, SPEC, BY_EMBEDDING, {'model.bbox_head.num_classes': 1}),
    f'{TABLES}table2_spec-spec-det': (COCO, SPEC),
    f'{TABLES}table2_spec-spec-emb': (COCO, SPEC, BY_EMBEDDING),
    f'{TABLES}table3_box': (COCO, NO_COORDINATES),
    f'{TABLES}table3_coord': (COCO, boxes(0)),
    f'{TABLES}table3_none': (COCO, NO_COORDINATES, boxes(0)),
    f'{TABLES}table4_r101': (COCO, R101),
    f'{TABLES}table4_r101-oracle': (COCO, R101, {'model.oracle': True}),
    f'{TABLES}table4_r50-oracle': (COCO, {'model.oracle': True}),
    **{
        f'{TABLES}table5_momentum-{name}': (COCO, {'model.semantic_head.momentum': value})
        for name, value in {'0': 0.0, '99': 0.99, '999': 0.999, '99999': 0.99999}.items()
    },
    f'{TABLES}table6_all': (COCO, loss(filter_scale=None), {'model.panoptic_fusion_head.box_scale': None}),
    **{f'{TABLES}table6_filter-{100 * value:.0f}': (COCO, loss(filter_scale=value)) for value in (1.0, 1.2, 2.0)},
    **{f'{TABLES}table7_margin-{100 * value:03.0f}': (COCO, loss(margin=value)) for value in (0.0, 0.1, 0.2, 0.3)},
    **{
        f'{TABLES}table8_dims-{dims}': (COCO, boxes(dims), {'model.semantic_head.embedding_dims': dims})
        for dims in (16, 24, 48)
    },
    f'{TABLES}shapes_semseg': (SHAPES, SEMANTIC_BRANCH),
    f'{TABLES}shapes_all': (SHAPES, loss(filter_scale=None)),
}


@pytest.mark.parametrize('name', names_in('ciae/ablations'))
def test_settings(name):
    check(name, ROWS)


def test_every_row_has_a_config():
    assert set(ROWS) == set(names_in('ciae/ablations'))


@pytest.mark.parametrize(
    ('name', 'path', 'value'),
    [
        (f'{TABLES}table6_all', 'optim_wrapper.optimizer.lr', 0.1),
        (f'{TABLES}table7_margin-020', 'model.bbox_head.loss_bbox.loss_weight', 7.0),
        (f'{TABLES}table4_r101', 'model.backbone.depth', 50),
    ],
)
def test_another_value_is_noticed(name, path, value):
    check_that_noticed(name, ROWS, path, value)
