"""Networks with the mistakes that networks are known for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from diffkit.bundled.models.embedding import NoiseEmbedding
from diffkit.core.data import DataShape, Vocabulary
from diffkit.core.model import EpsilonModel
from diffkit.testing import Fixtures

from .mutant import Mutant


@dataclass(frozen=True)
class Conditional(Mutant):
    fixtures: Fixtures = field(default_factory=lambda: Fixtures(conditions={"label": torch.arange}))


def drawn(count):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 5, generator=generator, dtype=torch.float64)


TOKENS = {
    "tokens": drawn,
    "mask": lambda count: torch.arange(3) < 1 + torch.arange(count)[:, None] % 3,
}


@dataclass(frozen=True)
class WithTokens(Mutant):
    fixtures: Fixtures = field(default_factory=lambda: Fixtures(conditions=TOKENS))


class Plain(EpsilonModel):
    """One hidden layer, right; the mutants below change one thing."""

    def __init__(self, *, shape: DataShape) -> None:
        super().__init__()
        size = math.prod(shape)
        self.embed = NoiseEmbedding(8)
        self.first = nn.Linear(size, 16)
        self.told = nn.Linear(32, 16)
        self.last = nn.Linear(16, size)

    def seen(self, x):
        return x.flatten(1)

    def embedding(self, c_noise):
        return self.embed(c_noise)

    def mixed(self, hidden):
        return hidden

    def forward(self, x, c_noise, condition):
        hidden = F.silu(self.first(self.seen(x)) + self.told(self.embedding(c_noise)))
        return self.last(self.mixed(hidden)).reshape(x.shape)


class BatchStatisticsInEval(Plain):
    def mixed(self, hidden):
        return F.batch_norm(hidden, None, None, training=True)


class AttentionOverTheBatch(Plain):
    def mixed(self, hidden):
        return F.scaled_dot_product_attention(hidden, hidden, hidden)


class SoftmaxOverTheBatch(Plain):
    def mixed(self, hidden):
        return hidden.softmax(0)


class NoiseLevelIgnored(Plain):
    def embedding(self, c_noise):
        return self.embed(torch.ones_like(c_noise))


class NoiseLevelOfTheFirst(Plain):
    def embedding(self, c_noise):
        return self.embed(c_noise[:1].expand_as(c_noise))


class NoiseLevelOfAll(Plain):
    def embedding(self, c_noise):
        return self.embed(c_noise.mean().expand_as(c_noise))


class NoiseLevelInBfloat16(Plain):
    def embedding(self, c_noise):
        return self.embed(c_noise.bfloat16())


class IndexFromHalf(Plain):
    def embedding(self, c_noise):
        return self.embed(((c_noise / 1000).half() * 1000).long())


class IndexCutOff(Plain):
    def embedding(self, c_noise):
        return self.embed((c_noise / 1000 * 1000).long())


class NoiseLevelIntoALinearLayer(Plain):
    """Right in float32; autocast rounds the level to 8 bits on its way into the layer."""

    def __init__(self, *, shape: DataShape) -> None:
        super().__init__(shape=shape)
        self.embed = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 32))

    def embedding(self, c_noise):
        return self.embed(c_noise[:, None].to(self.told.weight.dtype) / 1000)


class DropoutInEval(Plain):
    def mixed(self, hidden):
        return F.dropout(hidden, 0.1)


class ParameterNeverUsed(Plain):
    def __init__(self, *, shape: DataShape) -> None:
        super().__init__(shape=shape)
        self.forgotten = nn.Linear(16, 16)


class EmbeddingDetached(Plain):
    def embedding(self, c_noise):
        return self.embed(c_noise).detach()


class InputDetached(Plain):
    def seen(self, x):
        return x.detach().flatten(1)


class BorderCutOff(Plain):
    def seen(self, x):
        inside = torch.zeros_like(x)
        inside[..., 1:-1, 1:-1] = x[..., 1:-1, 1:-1]
        return inside.flatten(1)


class EmbeddingRemembered(Plain):
    """The embedding of the first call serves all later ones of the same batch size."""

    def embedding(self, c_noise):
        if getattr(self, "_kept", c_noise).shape[:1] != c_noise.shape or not hasattr(self, "_kept"):
            self._kept = self.embed(c_noise)
        return self._kept


class EmbeddingOfTheCallBefore(Plain):
    def embedding(self, c_noise):
        here = self.embed(c_noise)
        before = getattr(self, "_before", here)
        self._before = here
        return before if before.shape == here.shape else here


class MoreChannels(Plain):
    def forward(self, x, c_noise, condition):
        output = super().forward(x, c_noise, condition)
        return torch.cat([output, output], dim=1)


class ChannelsSummedAway(Plain):
    def forward(self, x, c_noise, condition):
        return super().forward(x, c_noise, condition).mean(1)


class SinglePrecisionOnly(Plain):
    def forward(self, x, c_noise, condition):
        return super().forward(x, c_noise, condition).float()


class NormalisedWithoutEpsilon(Plain):
    def seen(self, x):
        flat = x.flatten(1)
        return flat / flat.std(1, keepdim=True)


class SoftmaxByHand(Plain):
    def mixed(self, hidden):
        weights = hidden.exp()
        return hidden + weights / weights.sum(1, keepdim=True)


class InputViewed(Plain):
    def seen(self, x):
        return x.view(x.shape[0], -1)


class StorageReadDirectly(Plain):
    def seen(self, x):
        return x.as_strided((x.shape[0], x[0].numel()), (x[0].numel(), 1))


class FrequenciesNotSaved(Plain):
    def __init__(self, *, shape: DataShape) -> None:
        super().__init__(shape=shape)
        self._frequencies = torch.randn(16)

    def embedding(self, c_noise):
        angles = c_noise[:, None] * self._frequencies
        return torch.cat([angles.sin(), angles.cos()], 1).to(self.told.weight.dtype)


class DtypesMixedUnderAutocast(Plain):
    def mixed(self, hidden):
        out = torch.zeros(hidden.shape, dtype=self.last.weight.dtype)
        out[torch.arange(len(hidden))] = F.linear(hidden, torch.eye(16).to(hidden.dtype))
        return out


class Labelled(Plain):
    """Takes a label, right."""

    def __init__(self, *, shape: DataShape) -> None:
        super().__init__(shape=shape)
        self.labels = nn.Embedding(10, 32)

    @classmethod
    def facts(cls, config):
        return {"conditions": ("label",)}

    def chosen(self, label):
        return self.labels(label)

    def forward(self, x, c_noise, condition):
        told = self.told(self.embedding(c_noise) + self.chosen(condition["label"]))
        return self.last(F.silu(self.first(self.seen(x)) + told)).reshape(x.shape)


class LabelIgnored(Labelled):
    def chosen(self, label):
        return self.labels(torch.zeros_like(label))


class NullOfNoCondition(Labelled):
    @classmethod
    def facts(cls, config):
        return {**super().facts(config), "null": {"class": 0}}


class NullThatIsNoNumber(Labelled):
    @classmethod
    def facts(cls, config):
        return {**super().facts(config), "null": {"label": None}}


class LabelOfTheFirst(Labelled):
    def chosen(self, label):
        return self.labels(label[:1])


class LabelsMixed(Labelled):
    def chosen(self, label):
        return self.labels(label).cumsum(0)


class ConditionsInAString(Labelled):
    @classmethod
    def facts(cls, config):
        return {"conditions": "label"}


class StepsAsAFloat(Plain):
    @classmethod
    def facts(cls, config):
        return {"steps": 1e3}


class Attends(Plain):
    """Looks at tokens; right."""

    def __init__(self, *, shape: DataShape) -> None:
        super().__init__(shape=shape)
        self.query = nn.Linear(16, 5)
        self.value = nn.Linear(5, 16)

    @classmethod
    def facts(cls, config):
        return {"conditions": ("tokens", "mask")}

    def mask_of(self, condition):
        return condition["mask"]

    def forward(self, x, c_noise, condition):
        hidden = F.silu(self.first(self.seen(x)) + self.told(self.embedding(c_noise)))
        query, tokens = self.query(hidden)[:, None], condition["tokens"].to(hidden.dtype)
        mask = self.mask_of(condition)[:, None]
        seen = F.scaled_dot_product_attention(query, tokens, tokens, attn_mask=mask)
        return self.last(hidden + self.value(seen[:, 0])).reshape(x.shape)


class PaddingCounts(Attends):
    def mask_of(self, condition):
        return condition["mask"] | True


class Reader(EpsilonModel):
    """Logits of each of a sample's tokens, from all of them; right."""

    def __init__(self, *, shape: DataShape, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary, size = vocabulary, math.prod(shape)
        self.embed = NoiseEmbedding(8)
        self.first = nn.Linear(size * (vocabulary + 1), 16)
        self.told = nn.Linear(32, 16)
        self.last = nn.Linear(16, size * vocabulary)

    def seen(self, x):
        return F.one_hot(x.flatten(1), self.vocabulary + 1).to(self.first.weight.dtype)

    def forward(self, x, c_noise, condition):
        hidden = self.first(self.seen(x).flatten(1)) + self.told(self.embed(c_noise))
        return self.last(F.silu(hidden)).reshape(*x.shape, self.vocabulary)


class LastTokenUnseen(Reader):
    def seen(self, x):
        seen = super().seen(x)
        return torch.cat([seen[:, :-1], 0 * seen[:, -1:]], dim=1)


class LogitsBehindTheBatch(Reader):
    def forward(self, x, c_noise, condition):
        return super().forward(x, c_noise, condition).movedim(0, -1)


class LogOfShares(Reader):
    """-inf for a token that is not seen, where tokens are counted."""

    def seen(self, x):
        seen = super().seen(x)
        shares = seen[..., :-1].mean(1, keepdim=True)
        return torch.cat([seen[..., :-1] + shares.log(), seen[..., -1:]], dim=-1)


RIGHT = (Plain, Reader)

MUTANTS = (
    Mutant(BatchStatisticsInEval, "batch statistics in eval mode too"),
    Mutant(AttentionOverTheBatch, "attention between the samples of a batch"),
    Mutant(SoftmaxOverTheBatch, "a softmax over the batch axis"),
    Mutant(NoiseLevelIgnored, "the noise level has no effect"),
    Mutant(NoiseLevelOfTheFirst, "the first sample's noise level for the whole batch"),
    Mutant(NoiseLevelOfAll, "the batch's mean noise level for each sample"),
    Mutant(NoiseLevelInBfloat16, "the noise level cast to bfloat16"),
    Mutant(IndexFromHalf, "the index of the noise level computed in float16"),
    Mutant(IndexCutOff, "the index of the noise level cut off, not rounded"),
    Mutant(NoiseLevelIntoALinearLayer, "the noise level rounded by autocast"),
    Mutant(DropoutInEval, "dropout in eval mode too"),
    Mutant(ParameterNeverUsed, "a layer that nothing uses"),
    Mutant(EmbeddingDetached, "no gradient to the embedding of the noise level"),
    Mutant(InputDetached, "no gradient to the input"),
    Mutant(BorderCutOff, "the border of images is not looked at"),
    Mutant(EmbeddingRemembered, "the first call's embedding kept for later calls"),
    Mutant(EmbeddingOfTheCallBefore, "the embedding of the call before"),
    Mutant(MoreChannels, "twice as many channels in the output"),
    Mutant(ChannelsSummedAway, "no channel axis in the output"),
    Mutant(SinglePrecisionOnly, "float32 output whatever the input is"),
    Mutant(NormalisedWithoutEpsilon, "a division by a standard deviation that can be 0"),
    Mutant(SoftmaxByHand, "a softmax that overflows"),
    Mutant(InputViewed, "a view of the input, which fails on strided ones"),
    Mutant(StorageReadDirectly, "the input's memory read as if it were dense"),
    Mutant(FrequenciesNotSaved, "random frequencies that are not in the state dict"),
    Mutant(DtypesMixedUnderAutocast, "dtypes that clash under autocast"),
    Mutant(StepsAsAFloat, "a number of steps that is not whole"),
    Conditional(ConditionsInAString, "the name of a condition in place of a tuple of names"),
    Conditional(LabelIgnored, "the condition has no effect"),
    Conditional(LabelOfTheFirst, "the first sample's condition for the whole batch"),
    Conditional(NullOfNoCondition, "a null for a condition that it does not take"),
    Conditional(NullThatIsNoNumber, "a null that is no number"),
    Conditional(LabelsMixed, "conditions that reach the samples after theirs"),
    Mutant(LastTokenUnseen, "the last token of a sample is not looked at"),
    Mutant(LogitsBehindTheBatch, "logits of tokens with the batch behind them"),
    Mutant(LogOfShares, "the logarithm of how often a token is seen"),
    WithTokens(PaddingCounts, "tokens that count although the mask leaves them out"),
)
