_base_ = '../spatialflow_r18_fpn_shapes.py'

model = dict(bbox_head=dict(num_stuff_stages=0, num_thing_stages=0))
