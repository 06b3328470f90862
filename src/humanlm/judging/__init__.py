"""Judging: groups of rollouts, verdicts, and the judges that give them."""

from humanlm.judging.base import Group, Judge, Verdict
from humanlm.judging.opening import open_judge

__all__ = ["Group", "Judge", "Verdict", "open_judge"]
