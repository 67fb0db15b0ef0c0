"""miyabi runs coding agents, built for gpt-oss models, against git repositories."""

__version__ = "0.1.0"
