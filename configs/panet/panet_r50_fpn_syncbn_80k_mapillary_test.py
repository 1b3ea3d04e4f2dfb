# For the test server, whose files tools/test.py writes with this config. Before:
#   python tools/dataset_converters/mapillary.py data/mapillary --split testing
_base_ = './panet_r50_fpn_syncbn_80k_mapillary.py'

test_dataloader = dict(
    dataset=dict(ann_file='annotations/instances_testing.json', data_prefix=dict(img='testing/images/'))
)
test_evaluator = dict(
    _delete_=True, type='MapillaryResults', outfile_prefix='work_dirs/panet_r50_fpn_syncbn_80k_mapillary_test/results'
)
