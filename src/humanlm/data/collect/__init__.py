"""Collectors: six platforms and one's own tables, each read in steps that can be stopped and taken up again."""

from humanlm.data.collect.run import Collected, collect
from humanlm.data.collect.source import Fault, Run, Source, Step

__all__ = ["Collected", "Fault", "Run", "Source", "Step", "collect"]
