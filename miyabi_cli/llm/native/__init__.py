"""The parts of Ollama's native API."""
