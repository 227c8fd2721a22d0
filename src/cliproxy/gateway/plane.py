"""What the Management API works on, in one place; `app.py` puts it together."""

from __future__ import annotations

from cliproxy.gateway.desk import ConfigDesk
from cliproxy.gateway.gate import Gate
from cliproxy.gateway.runtime import Runtime


class Plane:
    def __init__(self, runtime: Runtime, desk: ConfigDesk, gate: Gate) -> None:
        self.runtime = runtime
        self.desk = desk
        self.gate = gate
