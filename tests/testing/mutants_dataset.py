"""Datasets with the mistakes that datasets are known for."""

from __future__ import annotations

import torch

from diffkit.core.data import ConditionInfo
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.stream import Stream

from .mutant import Mutant

COUNT = 20
DECLARED = {"label": ConditionInfo(dtype="int64", classes=10)}


class Grey(Dataset):
    """Images of bytes with labels, right; the mutants below change one thing."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(256, (COUNT, 1, 4, 6), generator=generator, dtype=torch.uint8)
        self.labels = torch.randint(10, (COUNT,), generator=generator)

    @classmethod
    def facts(cls, config):
        return {"shape": (1, 4, 6), "range": (-1.0, 1.0), "conditions": DECLARED}

    @property
    def conditions(self):
        return DECLARED

    @property
    def shape(self):
        return (1, 4, 6)

    @property
    def range(self):
        return (-1.0, 1.0)

    def __len__(self):
        return COUNT

    def rows(self, indices):
        return torch.as_tensor(list(indices))

    def images(self, rows):
        return self.pixels[rows].float() / 127.5 - 1

    def condition(self, rows):
        return {"label": self.labels[rows]}

    def batch(self, indices):
        rows = self.rows(indices)
        return Batch(self.images(rows), self.condition(rows))


class OneTooLong(Grey):
    def __len__(self):
        return COUNT + 1


class OneTooShort(Grey):
    def __len__(self):
        return COUNT - 1


class Endless(Grey):
    def rows(self, indices):
        return super().rows(indices) % COUNT


class NotScaled(Grey):
    def images(self, rows):
        return self.pixels[rows].float()


class InDoublePrecision(Grey):
    def images(self, rows):
        return self.pixels[rows].double() / 127.5 - 1


class ChannelsLastFacts(Grey):
    @classmethod
    def facts(cls, config):
        return {"shape": (4, 6, 1), "range": (-1.0, 1.0)}


class ChannelsLastImages(Grey):
    def images(self, rows):
        return super().images(rows).movedim(1, -1)


class HeightAndWidthSwapped(Grey):
    def images(self, rows):
        return super().images(rows).transpose(2, 3)


class RangeNotInTheFacts(Grey):
    @classmethod
    def facts(cls, config):
        return {"shape": (1, 4, 6)}


class ShuffledAtEachCall(Grey):
    def rows(self, indices):
        rows = super().rows(indices)
        return rows[torch.randperm(len(rows))]


class ShuffledWhenMade(Grey):
    def __init__(self) -> None:
        super().__init__()
        order = torch.randperm(COUNT)
        self.pixels, self.labels = self.pixels[order], self.labels[order]


class ViewsOfItsStorage(Grey):
    def __init__(self) -> None:
        super().__init__()
        self.floats = super().images(torch.arange(COUNT))

    def images(self, rows):
        neighbours = torch.equal(rows, torch.arange(len(rows)) + rows[0])
        in_range = int(rows.max()) < COUNT
        if neighbours and in_range:
            return self.floats[int(rows[0]) : int(rows[-1]) + 1]
        return self.floats[rows]


class ConditionsAreItsStorage(Grey):
    def condition(self, rows):
        whole = torch.equal(rows, torch.arange(len(rows)))
        return {"label": self.labels[: len(rows)] if whole else self.labels[rows]}


class LabelsByPlaceInTheBatch(Grey):
    def condition(self, rows):
        return {"label": self.labels[: len(rows)]}


class LabelsSorted(Grey):
    def condition(self, rows):
        return {"label": self.labels[rows].sort().values}


class OneLabelForTheBatch(Grey):
    def condition(self, rows):
        return {"label": self.labels[rows][0]}


class LabelsAsAList(Grey):
    def condition(self, rows):
        return {"label": self.labels[rows].tolist()}


class RandomFlip(Grey):
    def images(self, rows):
        images = super().images(rows)
        flipped = torch.rand(len(rows)) < 0.5
        return torch.where(flipped[:, None, None, None], images.flip(-1), images)


class IndicesSorted(Grey):
    def rows(self, indices):
        return super().rows(sorted(indices))


class RepeatsDropped(Grey):
    def rows(self, indices):
        return super().rows(dict.fromkeys(indices))


class AlwaysTheFirst(Grey):
    def images(self, rows):
        return super().images(rows)[:1].expand(len(rows), -1, -1, -1) * 0.0


class ConditionOfAnotherName(Grey):
    @property
    def conditions(self):
        return {"class": DECLARED["label"]}

    @classmethod
    def facts(cls, config):
        return {**super().facts(config), "conditions": {"class": DECLARED["label"]}}


class FewerClasses(Grey):
    @property
    def conditions(self):
        return {"label": ConditionInfo(dtype="int64", classes=5)}

    @classmethod
    def facts(cls, config):
        return {**super().facts(config), "conditions": cls().conditions}


class LabelsAsNumbers(Grey):
    def batch(self, indices):
        read = super().batch(indices)
        return Batch(read.x_0, {"label": read.condition["label"].float()})


class ConditionsNotInTheFacts(Grey):
    @classmethod
    def facts(cls, config):
        return {"shape": (1, 4, 6), "range": (-1.0, 1.0)}


class Tokens(Grey):
    """Tokens, right."""

    @classmethod
    def facts(cls, config):
        tokens = {"dtype": "int64", "vocabulary": cls.tokens}
        return {"shape": (1, 4, 6), "conditions": DECLARED, **tokens}

    tokens = 256

    @property
    def range(self):
        return None

    @property
    def dtype(self):
        return "int64"

    @property
    def vocabulary(self):
        return self.tokens

    def batch(self, indices):
        rows = self.rows(indices)
        return Batch(self.pixels[rows].long(), {"label": self.labels[rows]})


class TokensAsNumbers(Tokens):
    def batch(self, indices):
        read = super().batch(indices)
        return Batch(read.x_0.float(), read.condition)


class TokenBeyondTheVocabulary(Tokens):
    tokens = 200


class Counted(Stream):
    """A right stream: sample i is `sin(i + 1)` at each place, in batches of 3."""

    @classmethod
    def facts(cls, config):
        return {"shape": (2,), "range": None, "conditions": {"number": ConditionInfo()}}

    @property
    def shape(self):
        return (2,)

    @property
    def conditions(self):
        return {"number": ConditionInfo()}

    def first(self, rank, world, position):
        return position + rank

    def stride(self, world):
        return world

    def iterate(self, rank, world, position):
        number = self.first(rank, world, position)
        while True:
            numbers = number + self.stride(world) * torch.arange(3)
            x = (numbers + 1.0).sin()[:, None].expand(-1, 2).contiguous()
            yield Batch(x, {"number": numbers.float()})
            number += 3 * self.stride(world)


class BeginsAtZero(Counted):
    def first(self, rank, world, position):
        return rank


class OneSampleOff(Counted):
    def first(self, rank, world, position):
        return position + rank + (position > 0)


class AllReadAll(Counted):
    def first(self, rank, world, position):
        return position

    def stride(self, world):
        return 1


class PositionOfEachProcess(Counted):
    def first(self, rank, world, position):
        return position * world + rank


RIGHT = (Grey, Tokens, Counted)

MUTANTS = (
    Mutant(OneTooLong, "a length one too large"),
    Mutant(OneTooShort, "a length one too small"),
    Mutant(Endless, "indices past the end start again"),
    Mutant(NotScaled, "values 0 to 255 in a range of -1 to 1"),
    Mutant(InDoublePrecision, "samples in float64"),
    Mutant(ChannelsLastFacts, "facts that put the channels last"),
    Mutant(ChannelsLastImages, "images that have the channels last"),
    Mutant(HeightAndWidthSwapped, "height and width swapped"),
    Mutant(RangeNotInTheFacts, "a range that the facts do not know"),
    Mutant(ShuffledAtEachCall, "samples shuffled on each call"),
    Mutant(ShuffledWhenMade, "samples shuffled by the global generator when it is made"),
    Mutant(ViewsOfItsStorage, "batches that are views of the dataset's memory"),
    Mutant(ConditionsAreItsStorage, "conditions that are views of the dataset's memory"),
    Mutant(LabelsByPlaceInTheBatch, "labels by place in the batch, not by index"),
    Mutant(LabelsSorted, "labels in another order than samples"),
    Mutant(OneLabelForTheBatch, "one label for the whole batch"),
    Mutant(LabelsAsAList, "labels as a list"),
    Mutant(RandomFlip, "a random flip from the global generator"),
    Mutant(IndicesSorted, "indices read in ascending order"),
    Mutant(RepeatsDropped, "repeated indices read once"),
    Mutant(AlwaysTheFirst, "all samples alike"),
    Mutant(ConditionOfAnotherName, "a condition declared by another name than it has"),
    Mutant(FewerClasses, "fewer classes declared than there are"),
    Mutant(LabelsAsNumbers, "labels declared int64 that come as float32"),
    Mutant(ConditionsNotInTheFacts, "conditions that the facts do not know"),
    Mutant(TokensAsNumbers, "tokens declared int64 that come as float32"),
    Mutant(BeginsAtZero, "a stream that begins again where it should go on"),
    Mutant(OneSampleOff, "a stream that goes on one sample later"),
    Mutant(AllReadAll, "a stream of which every process reads all"),
    Mutant(PositionOfEachProcess, "a stream's position counted for each process by itself"),
    Mutant(TokenBeyondTheVocabulary, "a token beyond the vocabulary"),
)
