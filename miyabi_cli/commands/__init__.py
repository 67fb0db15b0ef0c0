"""The command line, one module a command: flags to settings, settings to a feature, its result to a report."""
