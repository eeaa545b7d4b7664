"""Arbitrary bytes for everything that parses what a peer sends: ``python -m fuzz --help``."""
