_base_ = '../spatialflow_r50_fpn_cityscapes.py'

# Without flows.
model = dict(bbox_head=dict(flows=dict(reg2cls=False, reg2stuff=False, reg2thing=False, stuff2thing=False)))
