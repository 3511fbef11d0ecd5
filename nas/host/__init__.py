"""The machine: cores, memory, caches, progress, worker processes and clusters."""
