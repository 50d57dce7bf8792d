"""What a study says, what will run, and what it costs."""
