"""The agent: a conversation in which a model works on a tree by tools, by rewriting or by filling in."""
