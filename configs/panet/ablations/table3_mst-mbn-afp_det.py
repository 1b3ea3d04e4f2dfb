_base_ = './table3_mst-mbn_det.py'

model = dict(roi_head=dict(bbox_roi_extractor=dict(type='AllLevelRoIExtractor'), bbox_head=dict(num_levels=4)))
