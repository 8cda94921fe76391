"""Speed beside a plain implementation, and quality at equal CPU time; each is run as ``python -m benchmarks.NAME``."""
