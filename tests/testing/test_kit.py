"""The kit as plugin authors use it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.errors import ComponentError
from diffkit.plugins.entries import ComponentEntry, Origin
from diffkit.plugins.host import Host
from diffkit.testing import (
    ComponentUnderTest,
    LawBroken,
    components_under_test,
    parametrize_with_checks,
    run_checks,
)
from diffkit.testing.checks import checks_of
from diffkit.testing.laws import normal_limit, within

from .mutants_every import OffsetIgnored
from .mutants_sampler import DeclaresTooMuch, Flow, Multistep, YieldsWithoutGradients

AUTHORS_FILE = """
from diffkit.testing import parametrize_with_checks
from diffkit.testing.checks.sampler import visits_its_times
from tests.testing.mutants_sampler import DeclaresTooMuch, Flow

@parametrize_with_checks(
    [DeclaresTooMuch, Flow],
    expected_failures={
        "classes.declarestoomuch": {"converges_as_declared": "it is of first order"},
        "classes.flow": {"visits_its_times": "this is not true"},
    },
)
def test_contract(component, check):
    check(component)
"""


def test_an_authors_file(tmp_path) -> None:
    (tmp_path / "test_authors.py").write_text(AUTHORS_FILE)
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_authors.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": root, "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    # One expected failure, one that passes nevertheless (strict), some that do not apply.
    assert re.search(r"^1 failed, \d+ passed, \d+ skipped, 1 xfailed", done.stdout, re.MULTILINE)
    assert "visits_its_times" in done.stdout
    assert "XPASS(strict)" in done.stdout


def test_a_broken_law_says_what_was_measured_and_why() -> None:
    check = next(c for c in checks_of("sampler") if c.name == "converges_as_declared")
    with pytest.raises(LawBroken) as caught:
        check(components_under_test(DeclaresTooMuch)[0])
    message = str(caught.value)
    assert message.startswith("classes.declarestoomuch: On a schedule even in log-SNR")
    assert re.search(r"measured: (0\.9|1\.0)", message)
    assert "expected: 2 within 0.2" in message
    assert "because:" in message


def test_an_exception_of_the_component_breaks_the_law() -> None:
    class Raises(Flow):
        def step(self, denoiser, x_t, t, s, noise):
            raise KeyError("oh")

    outcome = next(
        o for o in run_checks(components_under_test(Raises)) if o.check.name == "visits_its_times"
    )
    assert outcome.status == "failed"
    assert "KeyError: 'oh'" in outcome.message


def test_a_component_that_leaks_a_mode_does_not_disturb_the_next() -> None:
    caught = [
        o.check.name for o in run_checks(components_under_test(YieldsWithoutGradients)) if o.message
    ]
    assert "modes_do_not_leak" in caught
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("components", "options", "words"),
    [
        ("acme.*", {}, r"no component is called 'acme\.\*'"),
        (DDPM, {"configurations": {"acme.x": [{}]}}, "'acme.x' is not among"),
        (DDPM, {"expected_failures": {"classes.ddpm": {"no_such": "?"}}}, "no check 'no_such'"),
        (DDPM, {"expected_failures": {"acme.x": {"visits_its_times": "?"}}}, "acme.x has no check"),
    ],
)
def test_names_that_match_nothing_are_refused(components, options, words) -> None:
    with pytest.raises(ComponentError, match=words):
        parametrize_with_checks(components, **options)


def test_configurations_are_checked_one_by_one() -> None:
    given = {"diffkit.ddpm": [{"variance": "fixed_large"}, {"variance": "fixed_small"}]}
    found = components_under_test("diffkit.ddpm", configurations=given)
    assert [dict(subject.config) for subject in found] == given["diffkit.ddpm"]
    assert found[0].make()._variance == "fixed_large"


def test_an_ignored_option_is_named() -> None:
    check = next(c for c in checks_of("every") if c.name == "every_option_does_something")
    with pytest.raises(LawBroken, match="measured: offset"):
        check(components_under_test(OffsetIgnored)[0])


def test_what_is_not_listed_is_noticed() -> None:
    check = next(c for c in checks_of("every") if c.name == "listing_imports_nothing")
    origin = Origin("nowhere", "1", "nowhere")
    entry = ComponentEntry("sampler", "gone", "diffkit.bundled.samplers.ddpm:DDPM", origin)
    with pytest.raises(LawBroken, match="measured: False"):
        check(ComponentUnderTest(entry, Host()))


def test_a_tolerance_holds_its_false_alarm_rate() -> None:
    torch.manual_seed(0)
    limit = normal_limit(comparisons=10, false_alarm=0.01)
    worst = torch.randn(20_000, 10, dtype=torch.float64).abs().amax(1)
    rate = float((worst > limit).double().mean())
    # 200 alarms are expected; five standard errors either way.
    assert abs(rate - 0.01) < 5 * (0.01 / 20_000) ** 0.5


@pytest.mark.parametrize(
    ("measured", "expected", "accepted"),
    [
        (torch.nan, 0.0, False),
        (torch.inf, 0.0, False),
        (torch.ones(2), torch.ones(3), False),
        (1.1, 1.0, False),
        (torch.tensor([torch.inf, 1.0]), torch.tensor([torch.inf, 1.01]), True),
        (torch.tensor([torch.inf, 1.0]), torch.tensor([-torch.inf, 1.0]), False),
    ],
)
def test_within(measured, expected, accepted) -> None:
    try:
        within("it", measured, expected, 0.05, "a test")
    except LawBroken:
        assert not accepted
    else:
        assert accepted


def test_why_a_component_is_left_out(tmp_path) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[diffkit.sampler.v9]\nfuture = broken:Future\n"
        "[diffkit.sampler.v1]\ntwice = broken:One\ntwice = broken:Two\n"
    )
    host = Host(path=[str(tmp_path)])
    for name, words in (
        ("broken.future", "interface version 9 of sampler is not known here"),
        ("broken.twice", "is declared twice"),
        ("broken.*", "interface version 9"),
    ):
        with pytest.raises(ComponentError, match=words):
            components_under_test(name, host=host)


def test_checks_run_on_one_thread_and_put_the_number_back() -> None:
    seen = []

    class Counts(Flow):
        def step(self, denoiser, x_t, t, s, noise):
            seen.append(torch.get_num_threads())
            return super().step(denoiser, x_t, t, s, noise)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        checks_of("sampler")[0](components_under_test(Counts)[0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_a_solver_for_even_steps_is_not_failed_on_others() -> None:
    class ForEvenSteps(Multistep):
        order_on_uneven_steps = None

        def weight(self, last, h):
            return 0.5

    found = {o.check.name: o for o in run_checks(components_under_test(ForEvenSteps))}
    assert not [o for o in found.values() if o.status == "failed"]
    assert "order there is 0.99, not 2" in found["keeps_its_order_on_uneven_steps"].message
