_base_ = './ablations/table12_retinanet.py'

# Detection alone, with the flow from regression to classification.
model = dict(bbox_head=dict(type='SpatialFlowHead', num_panoptic_levels=0))
