_base_ = './table5_subnets.py'

# Mask and stuff head on RetinaNet, nothing else.
model = dict(bbox_head=dict(num_stuff_stages=0, num_thing_stages=0))
