"""What test runners write, one format a module; each gives a `TestReport`."""
