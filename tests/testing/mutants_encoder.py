"""Mistakes of encoders."""

from __future__ import annotations

import torch
from torch import nn

from diffkit.core.encoder import ConditionGroup, Encoder

from .mutant import Mutant


class Right(Encoder):
    """A right one: a vector for each class, and one for none."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Embedding(11, 6)

    @classmethod
    def facts(cls, config):
        return {"takes": ("label",), "vector": 6}

    def null(self, count):
        return {"label": torch.full((count,), 10)}

    def forward(self, prepared):
        return {"vector": self.vectors(prepared["label"])}


class Sequence(Right):
    """A right one: the class's token, and one that does not count."""

    @classmethod
    def facts(cls, config):
        return {"takes": ("label",), "tokens": 6}

    def forward(self, prepared):
        token = self.vectors(prepared["label"])
        tokens = torch.stack([token, torch.zeros_like(token)], dim=1)
        mask = torch.tensor([[True, False]]).expand(len(token), 2)
        return {"tokens": tokens, "mask": mask}


class GroupsLeaveOneOut(Right):
    def groups(self):
        return ()


class GroupsOfOtherNames(Right):
    def groups(self):
        return (ConditionGroup(("label",), ("class",)),)


class GivesMoreThanItSays(Right):
    def forward(self, prepared):
        return {**super().forward(prepared), "style": self.vectors(prepared["label"])}


class SaysMoreThanItGives(Right):
    @classmethod
    def facts(cls, config):
        return {**super().facts(config), "gives": ("style",)}


class NameNotListed(Right):
    @classmethod
    def facts(cls, config):
        return {"takes": "label", "vector": 6}


class SaysNothing(Right):
    @classmethod
    def facts(cls, config):
        return {"takes": ("label",)}


class AnotherWidth(Right):
    @classmethod
    def facts(cls, config):
        return {"takes": ("label",), "vector": 8}


class MaskOfNothing(Sequence):
    def forward(self, prepared):
        told = super().forward(prepared)
        return {**told, "mask": told["mask"] & (prepared["label"] < 10)[:, None]}


class MaskOfNumbers(Sequence):
    def forward(self, prepared):
        told = super().forward(prepared)
        return {**told, "mask": told["mask"].float()}


class NullOfAnotherType(Right):
    def null(self, count):
        return {"label": torch.full((count,), 10.0)}

    def forward(self, prepared):
        return {"vector": self.vectors(prepared["label"].long())}


class NullOfOneRow(Right):
    def null(self, count):
        return {"label": torch.full((1,), 10)}


class NullsThatDiffer(Right):
    def null(self, count):
        return {"label": 10 - torch.arange(count) % 2}


class NullIsTheFirstClass(Right):
    def null(self, count):
        return {"label": torch.zeros(count, dtype=torch.int64)}


class CenteredOverTheBatch(Right):
    def forward(self, prepared):
        vector = self.vectors(prepared["label"])
        return {"vector": vector - vector.mean(0)}


class SortedInPrepare(Right):
    def prepare(self, condition):
        return {"label": condition["label"].sort(descending=True).values}


class OneForAll(Right):
    def forward(self, prepared):
        return {"vector": self.vectors(0 * prepared["label"])}


class PaddedToTheLongest(Sequence):
    """As many tokens as the batch needs."""

    def prepare(self, condition):
        label = condition["label"]
        return {"label": label, "length": torch.full_like(label, int(label.max()) + 1)}

    def null(self, count):
        return {"label": torch.full((count,), 10), "length": torch.full((count,), 11)}

    def forward(self, prepared):
        count = int(prepared["length"].max())
        token = self.vectors(prepared["label"])
        return {
            "tokens": token[:, None].expand(-1, count, -1),
            "mask": torch.ones(len(token), count, dtype=torch.bool),
        }


class DropsInEval(Right):
    def forward(self, prepared):
        vector = self.vectors(prepared["label"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(1000, (1,))))
            return {"vector": nn.functional.dropout(vector, 0.5, training=True)}


class Remembers(Right):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0.0

    def forward(self, prepared):
        self.seen += 1e-3
        return {"vector": self.vectors(prepared["label"]) + self.seen}


class Detached(Right):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, prepared):
        return {"vector": self.linear(self.vectors(prepared["label"]).detach())}


RIGHT = (Right, Sequence)
MUTANTS = (
    Mutant(NameNotListed, "the name of the condition as a string, not a tuple"),
    Mutant(SaysNothing, "neither a vector nor tokens among the facts"),
    Mutant(AnotherWidth, "another width than the facts say"),
    Mutant(MaskOfNothing, "a mask under which nothing counts, where there is no condition"),
    Mutant(MaskOfNumbers, "a mask of numbers"),
    Mutant(NullOfAnotherType, "no condition in another dtype than conditions"),
    Mutant(NullOfOneRow, "one row for no condition, however many were asked for"),
    Mutant(NullsThatDiffer, "rows for no condition that differ"),
    Mutant(NullIsTheFirstClass, "the first class in the place of no condition"),
    Mutant(CenteredOverTheBatch, "the mean over the batch taken away"),
    Mutant(SortedInPrepare, "conditions that are sorted as they are prepared"),
    Mutant(OneForAll, "the same for every condition"),
    Mutant(PaddedToTheLongest, "as many tokens as the longest of the batch has"),
    Mutant(DropsInEval, "dropout that does not end with training"),
    Mutant(Remembers, "something added at every call"),
    Mutant(GroupsLeaveOneOut, "a condition that is in no group"),
    Mutant(GroupsOfOtherNames, "a group whose prepared names are others"),
    Mutant(GivesMoreThanItSays, "something given that no fact names"),
    Mutant(SaysMoreThanItGives, "a name in the facts that is not given"),
    Mutant(Detached, "an embedding that no gradient reaches"),
)
