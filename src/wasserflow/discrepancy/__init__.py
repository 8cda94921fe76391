"""Discrepancies of particles from a target: MMD, energy by slices, KALE, DrMMD, Stein; two-sample tests."""
