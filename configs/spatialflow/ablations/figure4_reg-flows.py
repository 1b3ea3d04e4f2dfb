_base_ = './table11_600px.py'

# Trained at that size, too.
train_pipeline = _base_.train_pipeline
train_pipeline[2] = _base_.test_pipeline[1]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
