"""The concurrency models: what supplies transports to connections and runs a handler for each.

One coroutine, `hailer.runtime.model.serve_connection`, is run for every connection by every model.
A model differs in how it waits: `blocking` transports never suspend, so that a handler runs to its end
in one step; `aio` transports await the futures of an event loop.
"""
