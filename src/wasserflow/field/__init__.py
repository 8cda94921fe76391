"""Fields, what moves a particle: of a density ratio (known or learned), of samples of the target, of its score."""
