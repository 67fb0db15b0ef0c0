"""The parts of the chat completions wire, for every server that speaks it."""
