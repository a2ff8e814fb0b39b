"""Questions to the mode of the model and to the policy: what is switched on while it trains."""

from __future__ import annotations

from supervisor.checklists.first_pass import FirstPass
from supervisor.checklists.result import Answer, inapplicable, passed, shown, warned
from supervisor.records import CLIPS


def train_mode(now: FirstPass) -> Answer:
    """Ask whether the model is in training mode when it is trained."""
    still = now.evaluating
    if still is None:
        still = tuple(path or "model" for path, module in now.model.named_modules() if not module.training)
    moded = [name for name in still if _has_mode(now, name)]
    if not still:
        return passed("the model is in training mode")
    if "model" in still and moded:
        reason = f"the model is in eval mode: dropout is off, running statistics stand still ({shown(moded)})"
        return warned(reason, "Call model.train() before training.", moded)
    if moded:
        reason = f"{len(moded)} modules are in eval mode: {shown(moded)}"
        trained = [name for name in moded if any(p.requires_grad for p in now.model.get_submodule(name).parameters())]
        if trained:
            return warned(reason, "Call model.train(); keep in eval mode only what is frozen.", trained)
        return passed(f"{reason}; none of them is trained")
    return passed(
        "eval mode makes no difference to this model" if "model" in still else "the model is in training mode"
    )


def _has_mode(now: FirstPass, name: str) -> bool:
    module = now.model if name == "model" else now.model.get_submodule(name)
    kind = type(module).__name__
    drops = "Dropout" in kind and getattr(module, "p", 0.0) > 0
    within = getattr(module, "dropout", 0.0)  # of recurrent layers and attention: a number
    return drops or getattr(module, "track_running_stats", False) is True or (isinstance(within, float) and within > 0)


def clipping(now: FirstPass) -> Answer:
    """Ask whether something clips the gradients of a recurrent network."""
    recurrent = [layer.name for layer in now.anatomy.layers if layer.kind == "recurrent"]
    if not recurrent:
        return inapplicable("no recurrent layers; the policy clips where gradients explode")
    clips = sorted(now.policy.remedies & CLIPS)
    if clips:
        return passed(f"policy {now.policy.name!r} clips where they explode ({', '.join(clips)})", recurrent)
    reason = f"policy {now.policy.name!r} never clips, and gradients of {shown(recurrent)} multiply through time"
    return warned(reason, "Take a policy with clip_norm on the ladder of exploding_gradients.", recurrent)


def monitoring(now: FirstPass) -> Answer:
    """Ask whether the policy watches for every pathology."""
    off = [name for name, thresholds in now.policy.detect.items() if thresholds is None]
    if off:
        reason = f"policy {now.policy.name!r} has switched off {', '.join(sorted(off))}"
        return warned(reason, "Leave them on; declare what is normal in `context`.", off)
    every = now.policy.observe.activations_every
    return passed(f"gradients are watched at every step, activations at every {every}th")
