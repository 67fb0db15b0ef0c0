"""Models: the provider protocol, one module for each wire, and what they share."""
