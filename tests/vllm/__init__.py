"""Tests against a real vLLM: `make test-vllm` installs it and runs them; the ordinary suite leaves them out."""
