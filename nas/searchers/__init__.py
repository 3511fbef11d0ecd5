"""What chooses the next architecture: policies inside the search step, searchers on the host."""
