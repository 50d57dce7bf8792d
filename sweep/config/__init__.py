"""Study file: its keys as frozen pydantic models, and the reader that reports all mistakes at once."""
