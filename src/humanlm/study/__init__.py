"""Studies with people: the web app, its storage, and its statistics."""
