"""COCO's classes of object size: https://cocodataset.org/#detection-eval"""

# Area in pixels by name: at least the first number, below the second.
OBJECT_SIZES = {'small': (0, 32**2), 'medium': (32**2, 96**2), 'large': (96**2, 2**62)}
