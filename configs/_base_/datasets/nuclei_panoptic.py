# Nuclei of the Data Science Bowl 2018, an example of one's own data: images and instance label maps become COCO
# panoptic by
#   python tools/dataset_converters/label_maps.py IMAGES LABELS data/nuclei/annotations/panoptic_train.json \
#       --categories configs/_base_/datasets/nuclei_categories.json
# and likewise for val; data/nuclei/train and data/nuclei/val are the folders of images.
_base_ = './shapes_panoptic.py'

train_dataloader = dict(
    dataset=dict(
        data_root='data/nuclei/',
        pipeline=dict(
            _delete_=True,
            load=dict(type='LoadImageFromFile'),
            annotations=dict(type='LoadPanopticAnnotations', with_panoptic=False),
            # Doubled: the median nucleus is 14 pixels wide.
            resize=dict(type='RandomResize', scale=(512, 512), ratio_range=(0.75, 1.25), keep_ratio=True),
            crop=dict(type='RandomCrop', crop_size=(320, 320), allow_negative_crop=True, recompute_bbox=True),
            # What a crop leaves of an instance may be nothing: a box without extent has no regression target.
            filter=dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), by_mask=True, keep_empty=False),
            flip=dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
            pack=dict(type='PackPanopticInputs'),
        ),
    )
)
val_dataloader = dict(dataset=dict(data_root='data/nuclei/', pipeline=dict(resize=dict(scale=(512, 512)))))
test_dataloader = val_dataloader

val_evaluator = dict(classwise=False)
test_evaluator = val_evaluator
