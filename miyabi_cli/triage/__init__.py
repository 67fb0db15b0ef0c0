"""Triage: what an issue is, how grave, whose, and which labels say so; by a model, or by rules alone."""
