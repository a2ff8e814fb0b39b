"""The held-out half of the clinic: cases on which nothing is tuned."""

from __future__ import annotations

from supervisor.clinic.case import Case
from supervisor.clinic.held_out import (
    faulty_attention,
    faulty_autoencoders,
    faulty_convolution,
    faulty_dense,
    faulty_dense_units,
    faulty_others,
    faulty_residual,
    faulty_sequence,
    well_batches,
    well_courses,
    well_games,
    well_likelihoods,
    well_losses,
    well_nets,
    well_rewards,
    well_sequences,
)

CASES: tuple[Case, ...] = (
    *faulty_attention.CASES,
    *faulty_autoencoders.CASES,
    *faulty_convolution.CASES,
    *faulty_dense.CASES,
    *faulty_dense_units.CASES,
    *faulty_others.CASES,
    *faulty_residual.CASES,
    *faulty_sequence.CASES,
    *well_batches.CASES,
    *well_courses.CASES,
    *well_games.CASES,
    *well_likelihoods.CASES,
    *well_losses.CASES,
    *well_nets.CASES,
    *well_rewards.CASES,
    *well_sequences.CASES,
)
