"""Training: configuration, methods, schedule and advantages are engine-neutral; TRL does the optimising.

Importing this package imports no framework.
"""

from humanlm.training.config import TrainConfig
from humanlm.training.methods import METHODS, Method
from humanlm.training.run import train

__all__ = ["METHODS", "Method", "TrainConfig", "train"]
