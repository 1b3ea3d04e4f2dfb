_base_ = './table3_mst_det.py'

model = _base_._mbn
model.roi_head.pop('mask_head')
