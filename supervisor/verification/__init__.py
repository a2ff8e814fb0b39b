"""Whether a remedy helped: the verdict after its probation."""

from supervisor.verification.verdicts import close_quiet, judge, not_back, overtaken

__all__ = ["close_quiet", "judge", "not_back", "overtaken"]
