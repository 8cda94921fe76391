"""Potentials: objectives that learn them, engines that differentiate these, densities read off them."""
