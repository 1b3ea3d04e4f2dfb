_base_ = './shapes_subnets.py'

model = dict(bbox_head=dict(num_stuff_stages=0, num_thing_stages=0))
