"""The classes of Shapes, things first."""

#: COCO's ``categories``: id, name, isthing, supercategory and the colour of overlays, which the images do not use.
CATEGORIES: tuple[dict, ...] = tuple(
    {'id': i, 'name': name, 'isthing': isthing, 'supercategory': supercategory, 'color': color}
    for i, (name, isthing, supercategory, color) in enumerate(
        [
            ('person', 1, 'living', [220, 20, 60]),
            ('tie', 1, 'clothing', [255, 215, 0]),
            ('car', 1, 'vehicle', [0, 60, 190]),
            ('tree', 1, 'plant', [60, 130, 20]),
            ('sign', 1, 'street', [250, 130, 10]),
            ('ball', 1, 'toy', [170, 40, 200]),
            ('box', 1, 'toy', [0, 190, 190]),
            ('sky', 0, 'far', [110, 170, 230]),
            ('building', 0, 'far', [110, 90, 90]),
            ('hedge', 0, 'far', [20, 90, 70]),
            ('grass', 0, 'ground', [150, 240, 130]),
            ('pavement', 0, 'ground', [245, 170, 220]),
            ('road', 0, 'ground', [100, 70, 130]),
        ],
        start=1,
    )
)

NAMES: tuple[str, ...] = tuple(category['name'] for category in CATEGORIES)
#: Name to position in ``CATEGORIES``.
LABELS: dict[str, int] = {name: label for label, name in enumerate(NAMES)}
