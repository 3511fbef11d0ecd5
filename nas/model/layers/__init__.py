"""Layers and blocks, as Flax NNX modules."""
