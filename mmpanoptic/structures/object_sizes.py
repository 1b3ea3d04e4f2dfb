"""How large objects are, in the words of COCO: https://cocodataset.org/#detection-eval"""

# Pixels by name: from the first number on, below the second.
OBJECT_SIZES = {'small': (0, 32**2), 'medium': (32**2, 96**2), 'large': (96**2, 2**62)}
