"""The endpoint in which the model is the user, and its playground."""
