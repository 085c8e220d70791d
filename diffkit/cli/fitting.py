"""What verbs share that train a network beside the diffusion model, with `diffkit.helpers.fit`.

Quick to import: click alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diffkit.errors import CheckpointError, DiffkitError

if TYPE_CHECKING:
    from diffkit.helpers.interruption import Request
    from diffkit.helpers.progress import Progress

_Command = Callable[..., Any]


def fit_options(
    *, steps: int, batch_size: int, learning_rate: float, weight_decay: float = 0.0
) -> Callable[[_Command], _Command]:
    """Add `--steps`, `--max-seconds`, `--batch-size`, `--learning-rate` and `--seed`.

    The verb is given one argument for them, `settings`, a `diffkit.helpers.fit.FitSettings`.
    """
    positive = click.FloatRange(min=0, min_open=True)
    counts = click.IntRange(min=1)
    options = [
        click.option("--steps", type=counts, default=steps, show_default=True),
        click.option("--max-seconds", type=positive, help="Stop training earlier."),
        click.option("--batch-size", type=counts, default=batch_size, show_default=True),
        click.option("--learning-rate", type=positive, default=learning_rate, show_default=True),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
    ]

    def decorated(command: _Command) -> _Command:
        @wraps(command)
        def with_settings(
            *,
            steps: int,
            max_seconds: float | None,
            batch_size: int,
            learning_rate: float,
            seed: int,
            **others: Any,
        ) -> Any:
            from diffkit.helpers.fit import FitSettings

            settings = FitSettings(
                steps, max_seconds, batch_size, learning_rate, weight_decay, seed
            )
            return command(settings=settings, **others)

        found: _Command = with_settings
        for option in reversed(options):
            found = option(found)
        return found

    return decorated


@dataclass
class Fitting:
    """A training that is under way: what `diffkit.helpers.fit.fit` tells it and asks it."""

    bar: Progress
    request: Request
    terms: Mapping[str, float] = field(default_factory=dict)
    """Those of the last update."""

    def progress(self, done: float, terms: Mapping[str, float]) -> None:
        """Show the share that is done, and the terms."""
        self.terms = terms
        self.bar.update(done, ", ".join(f"{name} {value:.4f}" for name, value in terms.items()))

    def stop(self) -> bool:
        """Whether a signal asked for the end."""
        return self.request.signal is not None


@contextmanager
def fitting(out: Path, write: Callable[[], object]) -> Iterator[Fitting]:
    """A bar, and an early end at a signal; at the end `write` writes what was learned to `out`.

    Also where training fails: the error then says where the network is that was learned until then.
    """
    from diffkit.helpers.interruption import requests_noted
    from diffkit.helpers.progress import bar

    with requests_noted() as request, bar("training", 1.0) as shown:
        try:
            yield Fitting(shown, request)
        except CheckpointError:
            raise
        except DiffkitError as error:
            error.add_note(_kept(out, write))
            raise
    write()


def _kept(out: Path, write: Callable[[], object]) -> str:
    try:
        write()
    except DiffkitError as error:
        return f"What was learned until then could not be kept: {error}"
    return f"What was learned until then is in {out}"


def end_if_stopped(fitted: Fitting) -> None:
    """Exit as a process that a signal ended does, where one asked for it."""
    signal = fitted.request.signal
    if signal is not None:
        click.echo(f"ended early by {signal.name}; what it had learned is kept", err=True)
        raise click.exceptions.Exit(128 + signal)
