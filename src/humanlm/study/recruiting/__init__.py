"""Recruiters: a study published and closed through their APIs."""
