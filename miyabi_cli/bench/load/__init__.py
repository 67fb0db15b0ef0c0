"""Load on a model's server: what is asked when, what is measured of it, and what that says."""
