"""The simulated vendors: strict, scriptable doubles of every upstream."""
