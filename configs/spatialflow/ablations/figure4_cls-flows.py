_base_ = './figure4_reg-flows.py'

# Flows start at classification: cls to reg, cls to stuff, cls to thing.
model = dict(bbox_head=dict(flow_source='cls'))
