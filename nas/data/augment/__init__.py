"""Augmentation: from images of a source to training images, replayed exactly from a seed.

To add an operation: a row in `rand_augment.OPERATIONS`. To add a recipe: a row in
`recipes.RECIPES`; users add theirs with `RECIPES.register`.
"""
