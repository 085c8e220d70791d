"""Guidances within one another."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.core import Conditioning, Guidance, GuidedDenoiser
from diffkit.testing.conditions import MEANS, Classes
from diffkit_guidance.classifier_free import ClassifierFree
from diffkit_guidance.in_turn import InTurn


class Counting(Guidance):
    """Remembers its last estimate, and notes how many rows each question had."""

    def __init__(self):
        self.seen = []

    @property
    def gives(self):
        return ("x_0",)

    @property
    def may_take(self):
        return ("style",)

    def guide(self, make_denoiser, conditioning):
        self.rows = {name: len(v) for name, v in conditioning.null.items()}
        return Remembers(make_denoiser(conditioning.condition), self.seen)


class Remembers(GuidedDenoiser):
    def __init__(self, inner, seen):
        super().__init__(inner)
        self.seen, self.last = seen, None

    def start(self, inputs):
        started = super().start(inputs)
        started.last = None
        return started

    def combine(self, predictions, x_t, t):
        self.seen.append((len(x_t), None if self.last is None else len(self.last)))
        self.last = predictions[0].x_0
        return predictions[0]


def conditioning():
    rows = torch.arange(3.0)[:, None].double()
    return Conditioning({MEANS: rows}, {MEANS: -rows}, {MEANS: rows})


def make(condition):
    return Classes(condition[MEANS])


def test_the_first_leads_the_network_and_the_last_is_asked():
    x = torch.randn(3, 1, dtype=torch.float64)
    inner = Counting()
    both = InTurn(guidances=(inner, ClassifierFree(scale=2.0))).guide(make, conditioning())
    wanted = ClassifierFree(scale=2.0).guide(make, conditioning())(x, 0.5)
    started = both.start({})
    assert torch.equal(started(x, 0.5).output, wanted.output)
    started(x, 0.4)
    # One batch holds each sample with its condition and without, and so does what is remembered.
    assert inner.seen == [(6, None), (6, 6)]
    assert inner.rows == {MEANS: 6}


def test_the_other_way_round_the_last_remembers_what_was_led():
    x = torch.randn(3, 1, dtype=torch.float64)
    outer = Counting()
    both = InTurn(guidances=(ClassifierFree(scale=2.0), outer)).guide(make, conditioning())
    wanted = ClassifierFree(scale=2.0).guide(make, conditioning())(x, 0.5)
    assert torch.equal(both.start({})(x, 0.5).output, wanted.output)
    assert outer.seen == [(3, None)]


def test_scales_within_one_another_multiply_around_the_null():
    """`null + b (c - null)` for `c = null + a (conditional - null)`, and the null led by itself."""
    x = torch.randn(3, 1, dtype=torch.float64)
    twice = InTurn(guidances=(ClassifierFree(scale=2.0), ClassifierFree(scale=3.0)))
    told = conditioning()
    found = twice.guide(make, told)(x, 0.5).output
    plain, null = (make(c)(x, 0.5).output for c in (told.condition, told.null))
    # The inner one leads each half of the joint batch from its own null, which is the same.
    inner = null + 2.0 * (plain - null)
    torch.testing.assert_close(found, null + 3.0 * (inner - null), rtol=0, atol=1e-12)


def test_what_they_take_and_give_is_theirs_together():
    both = InTurn(guidances=(Counting(), ClassifierFree(negative=("caption",))))
    assert both.needs_null
    assert both.gives == ("x_0",)
    assert both.may_take == ("style", "negative_caption")
    with pytest.raises(diffkit.SpecError, match=r"InTurn tells the network x_0"):
        diffkit.build(
            {
                "schedule": "cosine",
                "process": "variance-preserving",
                "model": "mlp",
                "loss": "simple",
                "sampler": "ddpm",
                "guidance": InTurn(guidances=(Counting(),)),
                "data": {"shape": [2]},
            }
        )
