"""Names of the relay's load that the measurements here still use."""

from __future__ import annotations

from hailer.tools.bench.relay.dialects import LineDialect, MqttDialect, NatsDialect, RedisDialect, Step

__all__ = ["LineDialect", "MqttDialect", "NatsDialect", "RedisDialect", "Step"]
