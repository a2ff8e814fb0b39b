"""What the supervisor may do to a training, and what it does when: YAML in, decisions out. No torch."""

from supervisor.policy.model import Limits, Observe, Policy, Rung, Treatment, Verify, When

__all__ = ["Limits", "Observe", "Policy", "Rung", "Treatment", "Verify", "When"]
