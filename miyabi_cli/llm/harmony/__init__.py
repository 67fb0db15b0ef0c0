"""gpt-oss's own language: conversations to token ids, and what the model writes to text, thought and calls."""
