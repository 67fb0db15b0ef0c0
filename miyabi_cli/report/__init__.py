"""What a user sees: one module for each output; they consume results and events."""
