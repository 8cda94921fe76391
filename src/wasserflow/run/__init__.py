"""A run: the folder of a training, and what is done with it."""
