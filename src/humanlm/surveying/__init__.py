"""Surveys: many simulated users answer the same stimuli."""

from humanlm.surveying.analysis import Survey
from humanlm.surveying.coding import Coder, open_coder
from humanlm.surveying.questions import Stimulus, generate_personas, read_margins
from humanlm.surveying.run import survey

__all__ = ["Coder", "Stimulus", "Survey", "generate_personas", "open_coder", "read_margins", "survey"]
