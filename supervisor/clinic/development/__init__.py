"""The development half of the clinic: the cases that detectors and policies are built and tuned on."""

from supervisor.clinic.case import Case
from supervisor.clinic.development import (
    autoencoder,
    cnn,
    controls_courses,
    controls_games,
    controls_losses,
    controls_nets,
    controls_tokens,
    mlp,
    recurrent,
    residual,
    transformer,
)

CASES: tuple[Case, ...] = (
    *mlp.CASES,
    *cnn.CASES,
    *recurrent.CASES,
    *transformer.CASES,
    *autoencoder.CASES,
    *residual.CASES,
    *controls_nets.CASES,
    *controls_losses.CASES,
    *controls_courses.CASES,
    *controls_games.CASES,
    *controls_tokens.CASES,
)
