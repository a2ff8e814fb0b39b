"""Before the first step, and on a model as it stands: what is wrong already, and how a model is begun well."""

from supervisor.checklists.checking import preflight
from supervisor.checklists.examining import diagnose
from supervisor.checklists.initializing import initialize_
from supervisor.checklists.result import Checklist, Item

__all__ = ["Checklist", "Item", "diagnose", "initialize_", "preflight"]
