"""The simulated vendors: strict, scriptable doubles of every upstream."""

from cliproxy.simulator.server import Simulator

__all__ = ["Simulator"]
