_base_ = './table4_r101.py'

model = dict(oracle=True)
