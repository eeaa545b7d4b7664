"""Measure the relay beside its peers: ``make bench``, or ``python -m bench --help``."""
