"""Augmentation: from the images of a source to what a network is trained on, replayed exactly from a seed.

To add an operation: a row in `rand_augment.OPERATIONS`. To add a recipe: a row in `recipes.RECIPES`.
"""
