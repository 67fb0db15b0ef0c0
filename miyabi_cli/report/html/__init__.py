"""A run as one self-contained page: no script, nothing fetched, and all that others wrote escaped."""
