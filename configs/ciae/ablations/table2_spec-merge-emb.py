_base_ = './table2_spec-spec-emb.py'

# The detector finds things without telling their classes apart.
model = dict(bbox_head=dict(num_classes=1))
