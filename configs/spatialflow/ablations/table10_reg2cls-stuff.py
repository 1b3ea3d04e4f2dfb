_base_ = './table6_subnets.py'

model = dict(bbox_head=dict(flows=dict(reg2cls=True, reg2stuff=True)))
