"""Historical bugs of open-source projects: `make test-real` clones them and runs these; the ordinary suite skips."""
