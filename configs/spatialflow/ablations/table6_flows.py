_base_ = '../spatialflow_r50_fpn_cityscapes.py'

# Without sub-networks: flows enter the features of the pyramid.
model = dict(bbox_head=dict(num_stuff_stages=0, num_thing_stages=0))
