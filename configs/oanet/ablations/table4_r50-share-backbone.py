_base_ = './table3_r50-baseline.py'

# One backbone, two FPNs.
model = dict(share='backbone')
