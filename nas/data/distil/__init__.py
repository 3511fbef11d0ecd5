"""The offline distilled data set: augmented images with a teacher's probabilities, made once.

The way of the data: a `Request` says what to make; `balance` chooses images where the recipe asks for it; `work` makes
one shard after the other (augment, encode, ask the teacher, write), in processes or on a cluster; `run` puts the shards
together under a `Manifest`; `nas.data.stored` reads them.
"""
