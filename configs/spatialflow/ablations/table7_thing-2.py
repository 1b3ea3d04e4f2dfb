_base_ = './table5_naive.py'

model = dict(bbox_head=dict(num_thing_stages=2))
