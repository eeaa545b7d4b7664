"""The library beside foreign ones: ``python -m bench echo``; what users measure is `hailer bench`."""
