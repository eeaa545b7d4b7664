"""Transports over a transport, written once for every concurrency model.

tls         a stream over a stream: the ssl module between two memory buffers
websocket   records over a stream: the sans-I/O half of the websockets library
"""
