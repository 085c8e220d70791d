"""Mistakes of weightings."""

from __future__ import annotations

import torch

from diffkit.core.weighting import Weighting

from .mutant import Mutant


class MinSNR(Weighting):
    """A right one: min(SNR, 5) / SNR. Hang et al. (2023)."""

    error = "epsilon"

    def weight(self, log_snr):
        return (5 * torch.exp(-log_snr)).clamp(max=1.0)


class Bell(Weighting):
    """A right one: the logistic density of the log-SNR."""

    def weight(self, log_snr):
        return torch.sigmoid(log_snr) * torch.sigmoid(-log_snr)


class BelowZero(Weighting):
    def weight(self, log_snr):
        return 1 - torch.exp(log_snr) / 100


class Overflows(Weighting):
    def weight(self, log_snr):
        snr = torch.exp(log_snr.half()).double()
        return snr / (1 + snr)


class NothingByNothing(Weighting):
    def weight(self, log_snr):
        snr = torch.exp(log_snr)
        return snr.clamp(max=5.0) / snr


class ComputedInSingle(Bell):
    def weight(self, log_snr):
        return super().weight(log_snr.float()).double()


class GivenInSingle(Bell):
    def weight(self, log_snr):
        return super().weight(log_snr).float()


class MeanOne(Bell):
    def weight(self, log_snr):
        weight = super().weight(log_snr)
        return weight / weight.mean()


class NeverReached(Weighting):
    def weight(self, log_snr):
        return (torch.exp(log_snr) > 1e5).double()


class Column(Bell):
    def weight(self, log_snr):
        return super().weight(log_snr).reshape(-1, 1)


class OfTheWrongError(Weighting):
    """EDM's weight, on the error in x_0, divided by hand for the one in epsilon."""

    error = "epsilon"

    def weight(self, log_snr):
        return 1 + 4 * torch.exp(-log_snr)


class OfNoKnownError(Bell):
    error = "score"


RIGHT = (MinSNR, Bell)
MUTANTS = (
    Mutant(BelowZero, "weights below 0 at high SNR"),
    Mutant(Overflows, "infinity by infinity: the SNR overflows float16"),
    Mutant(NothingByNothing, "0 by 0 where no signal is left"),
    Mutant(ComputedInSingle, "weights computed in float32"),
    Mutant(GivenInSingle, "weights given in float32"),
    Mutant(MeanOne, "weights divided by their mean over the batch"),
    Mutant(NeverReached, "a threshold that no noise level reaches"),
    Mutant(Column, "weights with an axis too many"),
    Mutant(OfTheWrongError, "a weight of another error than it is finite on: infinity by 0"),
    Mutant(OfNoKnownError, "a weight of an error that there is not"),
)
