"""Simulators: models that answer as a user."""

from humanlm.simulation.card import ModelCard
from humanlm.simulation.simulator import Simulator

__all__ = ["ModelCard", "Simulator"]
