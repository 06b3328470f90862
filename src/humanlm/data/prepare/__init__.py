"""From raw records to a dataset: filters, splits that do not leak, personas, privacy, an audit that gates, a card."""

from humanlm.data.prepare.audit import Audit, Finding, audit
from humanlm.data.prepare.config import PrepareConfig
from humanlm.data.prepare.run import Prepared, persona_cost, prepare

__all__ = ["Audit", "Finding", "PrepareConfig", "Prepared", "audit", "persona_cost", "prepare"]
