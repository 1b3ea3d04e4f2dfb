_base_ = '../spatialflow_r18_fpn_shapes.py'

model = dict(bbox_head=dict(flows=dict(reg2cls=False, reg2stuff=False, reg2thing=False, stuff2thing=False)))
