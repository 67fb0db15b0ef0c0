"""Models and the engine on this machine: fetched, verified, started, shared."""
