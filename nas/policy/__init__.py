"""Who chooses the next architecture: the REINFORCE controller, warm-up, repair."""
