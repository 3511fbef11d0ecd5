"""Layers as Flax NNX modules, and the functions that they are made of."""
