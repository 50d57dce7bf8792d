"""The study file: its keys as frozen pydantic values, and the reader that names every mistake at once."""
