"""A checkpoint as one document of plain data, and back as a checkpoint of a fresh run of the same code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from supervisor.checkpoints.copies import Shelf, alike
from supervisor.checkpoints.members import Members, members_of, module_names, parameter_names, parameters_of
from supervisor.checkpoints.optimizers import GroupState, OptimizerState
from supervisor.checkpoints.plain import Decoder, Encoder
from supervisor.checkpoints.state import Checkpoint, Hold
from supervisor.errors import UsageError
from supervisor.run import TrainingRun


@dataclass(frozen=True)
class Document:
    """A checkpoint as plain data. It shares the copies, so the checkpoint's memory is held as long as it lives."""

    content: dict[str, Any]
    tick: int
    step: int
    left_out: tuple[str, ...]  # what is no plain data and was not taken along
    hold: Hold


def document_of(run: TrainingRun, checkpoint: Checkpoint, more: Mapping[str, Any] | None = None) -> Document:
    """Return `checkpoint`, one of `run`, as plain data; `more` is plain data that goes along.

    Names are taken from the run as it stands: call it before the next surgery. Cheap, as nothing is copied; the
    document may then be written by another thread.
    """
    members = members_of(run)
    paths, names = module_names(members), {id(p): name for name, p in parameter_names(members)}
    encoder = Encoder(names)
    encode = encoder.encode
    content = {
        "tick": checkpoint.tick,
        "step": checkpoint.step,
        "more": dict(more or {}),
        "model_changes": [_thawed(surgery.change) for surgery in checkpoint.surgeries],
        "parameters": {names[id(live)]: kept for live, kept in checkpoint.parameters},
        "buffers": [
            (paths[id(m)], name, copy, None if live is None else str(live.device))
            for m, name, live, copy in checkpoint.buffers
        ],
        "optimizers": {name: _optimizer(kept, encoder, name) for name, kept in checkpoint.optimizers.items()},
        "others": {name: encode(kept, name) for name, kept in checkpoint.others.items()},
        "extra": {paths[id(m)]: encode(kept, paths[id(m)]) for m, kept in checkpoint.extra},
        "rng": encode(checkpoint.rng, "rng"),
        "training": {paths[id(m)]: on for m, on in zip(checkpoint.modules, checkpoint.training, strict=True)},
        "requires_grad": {
            names[id(p)]: on for p, on in zip(checkpoint.live, checkpoint.requires_grad, strict=True)
        },
    }  # fmt: skip
    return Document(content, checkpoint.tick, checkpoint.step, tuple(encoder.left_out), checkpoint.hold())


def _optimizer(kept: OptimizerState, encoder: Encoder, path: str) -> dict[str, Any]:
    return {
        "states": encoder.encode(kept.states, path),
        "groups": [
            {"params": [encoder.names[id(p)] for p in group.params], "values": encoder.encode(group.values, path)}
            for group in kept.groups
        ],
        "attributes": encoder.encode(kept.attributes, path),
        "inner": {name: _optimizer(inner, encoder, f"{path}.{name}") for name, inner in kept.inner.items()},
    }


def _thawed(value: Any) -> Any:  # noqa: ANN401 - a recorded change: plain data behind read-only views
    if isinstance(value, Mapping):
        return {key: _thawed(item) for key, item in value.items()}
    return [_thawed(item) for item in value] if isinstance(value, (list, tuple)) else value


def checkpoint_of(run: TrainingRun, content: Mapping[str, Any]) -> Checkpoint:
    """Return a document's content as a checkpoint of `run`, which `restore` then puts into place.

    UsageError where the run is not built as the one that was saved; nothing was changed then.
    """
    members = members_of(run)
    modules, homes, _ = parameters_of(members)
    paths, parameters = module_names(members), dict(parameter_names(members))
    _check(content, members, parameters, set(paths.values()))
    by_path = {paths[id(module)]: module for module in modules}
    shelf = Shelf()
    shelf.put([content["parameters"][name] for name in parameters])
    decoder = Decoder(shelf, parameters, run.device)
    return Checkpoint(
        tick=content["tick"],
        step=content["step"],
        live=list(parameters.values()),
        homes=homes,
        buffers=[_buffer(by_path[path], name, copy, place, decoder) for path, name, copy, place in content["buffers"]],
        optimizers={name: _decoded(plain, decoder) for name, plain in content["optimizers"].items()},
        others={name: decoder.decode(plain) for name, plain in content["others"].items()},
        extra=[(by_path[path], decoder.decode(plain)) for path, plain in content["extra"].items()],
        rng=decoder.decode(content["rng"]),
        modules=modules,
        training=[content["training"][paths[id(module)]] for module in modules],
        requires_grad=[content["requires_grad"][name] for name in parameters],
        surgeries=tuple(run.surgeries),
        place=None,
        shelf=shelf,
    )


def _check(content: Mapping[str, Any], members: Members, parameters: Mapping[str, Tensor], paths: set[str]) -> None:
    saved: Mapping[str, Tensor] = content["parameters"]
    pairs: list[tuple[str, Iterable[str], Iterable[str]]] = [
        ("parameter", saved, parameters),
        ("module", content["training"], paths),
        ("optimizer", content["optimizers"], members.optimizers),
        ("object with a state", content["others"], members.others),
    ]
    advice = "Build the training with the code it was saved by; surgeries are repeated by rebuild(model, model_changes)"
    for what, there, here in pairs:
        for missing in sorted({*there} - {*here}):
            message = f"checkpoint: it holds {what} {missing!r}, which this training has not. {advice}"
            raise UsageError(message)
        for missing in sorted({*here} - {*there}):
            message = f"checkpoint: it does not hold {what} {missing!r}, which this training has. {advice}"
            raise UsageError(message)
    for name, live in parameters.items():
        if live.shape != saved[name].shape:
            shapes = f"{tuple(saved[name].shape)}, here {tuple(live.shape)}"
            message = f"checkpoint: parameter {name!r} has shape {shapes}. {advice}"
            raise UsageError(message)


def _decoded(plain: Mapping[str, Any], decoder: Decoder) -> OptimizerState:
    groups = [
        GroupState([decoder.parameters[name] for name in group["params"]], decoder.decode(group["values"]))
        for group in plain["groups"]
    ]
    inner = {name: _decoded(within, decoder) for name, within in plain["inner"].items()}
    return OptimizerState(decoder.decode(plain["states"]), groups, decoder.decode(plain["attributes"]), inner)


def _buffer(
    module: nn.Module, name: str, copy: Tensor | None, place: str | None, decoder: Decoder
) -> tuple[nn.Module, str, Tensor | None, Tensor | None]:
    """Return a buffer's place with a tensor to copy into: the one there, or a new one where a forward made it."""
    if copy is None or place is None:
        return module, name, None, None
    live = module._buffers.get(name)  # noqa: SLF001 - getattr would find parameters, too
    if live is None or not alike(live, copy):
        live = copy.to(decoder.place(place), copy=True)
    return module, name, live, copy
