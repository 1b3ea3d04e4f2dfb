_base_ = './table3_rbl_det.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=dict(
            resize=dict(_delete_=True, type='RandomResize', scale=[(1400, 400), (1400, 1400)], keep_ratio=True)
        )
    )
)
