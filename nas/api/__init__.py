"""The Python door: everything that a command does is a call here.

`nas` offers these functions by name.
"""
