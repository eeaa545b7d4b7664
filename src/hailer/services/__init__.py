"""Handlers of the well-known small services, each for every model and framing."""
