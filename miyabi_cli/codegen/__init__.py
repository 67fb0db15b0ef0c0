"""The feature `codegen`: from a task to a verified patch; it knows nothing of terminals."""
