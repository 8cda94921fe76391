"""Discrepancies of particles from a target: MMD, sliced energy, KALE, DrMMD, Stein; two-sample tests."""
