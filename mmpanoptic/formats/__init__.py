"""Reading and writing of the files that data comes in: COCO's panoptic and instance formats."""
