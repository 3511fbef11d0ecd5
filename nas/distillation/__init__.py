"""Offline distillation: augmented images with the probabilities of a teacher, made once.

`request` turns parameters into a `Request`. `balance` chooses images where the recipe asks for it.
`shards` makes single shards (augment, encode, evaluate the teacher, write), in processes or on a
cluster. `run` collects the shards under a `Manifest`. `nas.data.distilled.split` reads them.
"""
