"""What everybody stands on: errors, files, noise, points, pairs, records, devices."""
