_base_ = './panet-det_r50_fpn_syncbn_80k_coco.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=dict(
            resize=dict(_delete_=True, type='RandomResize', scale=[(1400, 400), (1400, 1400)], keep_ratio=True)
        )
    )
)
