"""The first settings file of a repository: what is found there and on this machine, and the text that says it."""
