"""The laws of guidance, measured on data whose conditional denoiser is exact."""

from __future__ import annotations

import torch
from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.guidance import Guidance
from diffkit.core.prediction import GaussianPrediction
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.conditions import MEANS, Classes, asking, conditioning, means
from diffkit.testing.laws import NotApplicable, require, within

_ROWS = 4
_TIMES = (0.05, 0.5, 0.95)
_ROUNDING = 1e-5
_WHY = "networks of runs compute in float32, where sums are good to 1e-6; a wrong formula differs \
in the first digits"


@check
def process_and_range_stay(subject: ComponentUnderTest) -> None:
    """The guided denoiser has the process and the data range of the one that is guided."""
    guided, plain = _guided(subject)
    require(
        guided.process is plain.process and guided.data_range == plain.data_range,
        "the process and the range of the guided denoiser",
        measured=f"{type(guided.process).__name__}, {guided.data_range}",
        expected=f"{type(plain.process).__name__}, {plain.data_range}, the same ones",
        why="samplers take their coefficients from it, and what is clipped its range",
    )


@check
def it_answers_what_was_asked(subject: ComponentUnderTest) -> None:
    """The prediction is about the sample it was asked about, at its noise level, and finite."""
    guided, plain = _guided(subject)
    x_t = _samples(subject)
    for t in _TIMES:
        said, wanted = _asked(guided, x_t, t), _asked(plain, x_t, t)
        alpha, sigma = wanted.scales
        again = alpha * said.x_0 + sigma * said.epsilon
        size = float(again.abs().max())
        require(
            said.output.shape == x_t.shape and bool(said.x_0.isfinite().all()),
            f"the prediction at t = {t}",
            measured=f"of the shape {tuple(said.output.shape)}",
            expected=f"finite, of the shape {tuple(x_t.shape)}",
        )
        within(
            f"alpha x_0 + sigma epsilon of the prediction at t = {t}, against x_t",
            again,
            x_t,
            _ROUNDING * max(size, 1.0),
            _WHY,
        )


@check
def where_nothing_leads_it_changes_nothing(subject: ComponentUnderTest) -> None:
    """Where the condition is what stands for none, the prediction is that without guidance."""
    guidance: Guidance = subject.make()
    if not guidance.needs_null:
        raise NotApplicable("it does not lead away from what stands for no condition")
    if guidance.takes:
        raise NotApplicable(
            "it takes conditions of its own, which have nothing that stands for none"
        )
    condition = means(subject, _ROWS, "conditions")
    make_denoiser = asking([])
    guided = guidance.guide(make_denoiser, conditioning(condition, condition, {}))
    x_t = _samples(subject)
    for t in _TIMES:
        said, wanted = _asked(guided, x_t, t), _asked(make_denoiser(condition), x_t, t)
        size = float(wanted.output.abs().max())
        within(f"the output at t = {t}", said.output, wanted.output, _ROUNDING * size, _WHY)


@check
def guidance_has_an_effect(subject: ComponentUnderTest) -> None:
    """Somewhere the prediction differs from that without guidance."""
    guided, plain = _guided(subject)
    x_t = _samples(subject)
    apart = [
        float((_asked(guided, x_t, t).x_0 - _asked(plain, x_t, t).x_0).abs().max()) for t in _TIMES
    ]
    require(
        max(apart) > _ROUNDING, "the largest change of x_0", measured=max(apart), expected="> 0"
    )


@check
def samples_are_led_on_their_own(subject: ComponentUnderTest) -> None:
    """The guidance of one sample has no effect on the others, whatever batch it is in."""
    guided, _ = _guided(subject)
    x_t = _samples(subject)
    whole = _asked(guided, x_t, 0.5).x_0
    for row in (0, _ROWS - 1):
        alone = _guided(subject, [row])[0]
        found = _asked(alone, x_t[[row]], 0.5).x_0
        size = max(float(whole.abs().max()), 1.0)
        within(f"x_0 of row {row} alone", found, whole[[row]], _ROUNDING * size, _WHY)


@check
def times_may_differ_between_samples(subject: ComponentUnderTest) -> None:
    """Asked at a time for each sample, it says what it says of each at its own time."""
    guided, _ = _guided(subject)
    x_t = _samples(subject)
    times = torch.linspace(0.1, 0.9, _ROWS, dtype=torch.float64)
    together = _asked(guided, x_t, times).x_0
    for row in range(_ROWS):
        alone = _asked(guided, x_t, float(times[row])).x_0[row]
        size = max(float(alone.abs().max()), 1.0)
        within(f"x_0 of row {row}", together[row], alone, _ROUNDING * size, _WHY)


@check
def start_reaches_what_is_guided(subject: ComponentUnderTest) -> None:
    """What its own `start` gives asks only denoisers that were started, with their own rows."""
    made: list[Classes] = []
    guided, _ = _guided(subject, made=made)
    if type(guided).start is Denoiser.start:
        raise NotApplicable("it keeps nothing for a trajectory; what it asks for is started before")
    started = guided.start({"image": _samples(subject)})
    for t in _TIMES:
        _asked(started, _samples(subject), t)
    asked = sum(len(one.asked) for one in made)
    missed = sum(len(one.not_started) for one in made)
    require(
        missed == 0,
        f"of {asked} questions in a trajectory, those to a denoiser that was not started for it",
        measured=missed,
        expected="none: `start` returns a guided denoiser of `start(inputs)` of what it wraps",
        why="what a denoiser remembers lives in what `start` gives, and its inputs have "
        "a row for each sample that it is asked about",
    )


@check
def what_comes_with_a_question_is_handed_on(subject: ComponentUnderTest) -> None:
    """Tensors and second times that come with a question reach every denoiser that it asks."""
    made: list[Classes] = []
    guided, _ = _guided(subject, made=made)
    x_t, second = _samples(subject), torch.linspace(0.1, 0.4, _ROWS, dtype=torch.float64)
    for t in _TIMES:
        with torch.no_grad():
            guided(x_t, t, given={"x_0": x_t}, times={"r": second})
    for one in made:
        for rows, told in zip(one.asked, one.told, strict=True):
            lengths = {name: len(value) for name, value in told.items()}
            require(
                lengths == {"x_0": rows, "r": rows},
                f"the rows of what is told beside a question about {rows} samples",
                measured=lengths or "nothing is told",
                expected={"x_0": rows, "r": rows},
                why="a network with self-conditioning or a second time is not asked the same else",
            )


@check
def extras_are_kept(subject: ComponentUnderTest) -> None:
    """What the network gives beside its output is still there, a row for each sample."""
    guided, plain = _guided(subject)
    for t in _TIMES:
        extras = _asked(guided, _samples(subject), t).extras
        require(
            MEANS in extras and len(extras[MEANS]) == _ROWS,
            f"the extra {MEANS!r} of the prediction at t = {t}",
            measured=f"{len(extras[MEANS])} rows" if MEANS in extras else "not there",
            expected=f"{_ROWS} rows: {type(plain).__name__} gives it",
            why="whoever asks may need it; prediction.with_output keeps it",
        )


def _guided(
    subject: ComponentUnderTest, rows: list[int] | None = None, made: list[Classes] | None = None
) -> tuple[Denoiser, Classes]:
    """A guided denoiser, and the one that it guides; `made` receives all that were asked for."""
    guidance: Guidance = subject.make()
    some = slice(None) if rows is None else rows
    condition, null = (
        {name: value[some] for name, value in means(subject, _ROWS, purpose).items()}
        for purpose in ("conditions", "null")
    )
    given = {
        name: value[some]
        for name, value in subject.fixtures.condition(_ROWS).items()
        if name in guidance.takes
    }
    if missing := [name for name in guidance.takes if name not in given]:
        raise NotApplicable(f"the fixtures has no {', '.join(missing)}, which it takes")
    made = [] if made is None else made
    guided = guidance.guide(asking(made), conditioning(condition, null, given))
    mean = condition[MEANS]
    plain = next((m for m in made if len(m.mean) == len(mean)), Classes(mean))
    return guided, plain


def _samples(subject: ComponentUnderTest) -> Tensor:
    shape = (_ROWS, *subject.fixtures.shape)
    return torch.randn(shape, generator=subject.generator("x_t"), dtype=torch.float64)


def _asked(denoiser: Denoiser, x_t: Tensor, t: float | Tensor) -> GaussianPrediction:
    with torch.no_grad():
        prediction = denoiser(x_t, t)
    assert isinstance(prediction, GaussianPrediction)
    return prediction


CHECKS: tuple[Check, ...] = (
    process_and_range_stay,
    it_answers_what_was_asked,
    where_nothing_leads_it_changes_nothing,
    guidance_has_an_effect,
    samples_are_led_on_their_own,
    times_may_differ_between_samples,
    start_reaches_what_is_guided,
    what_comes_with_a_question_is_handed_on,
    extras_are_kept,
)
