"""Speed beside peers; see ``python -m benchmarks --help``, and ``results.py`` for how good it gets."""
