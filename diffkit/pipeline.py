"""The pipeline: what a user builds, trains, samples, saves and loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Unpack, get_args

import torch
from torch import Tensor, nn

from diffkit.arguments import instance, one_of, path, whole
from diffkit.assembly.build import (
    Assembly,
    training_components,
    with_training_changed,
)
from diffkit.assembly.components import Components
from diffkit.assembly.encoded_data import Encoded
from diffkit.assembly.network import Networks
from diffkit.assembly.on_demand import OnDemand
from diffkit.assembly.prepared_data import check_data
from diffkit.assembly.system import System
from diffkit.config.spec import Compilation, PipelineSpec, Precision
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import Denoiser
from diffkit.core.encoder import Given
from diffkit.core.loss import Batch, LossRecord
from diffkit.core.metric import Measured, ModelMetric, SampleMetric
from diffkit.core.sampler import State
from diffkit.core.weights import Nonfinite
from diffkit.errors import SpecError
from diffkit.evaluation.model import asked_while, measured_by_model
from diffkit.evaluation.samples import MeasuringOptions, measured_by_samples
from diffkit.pipeline_arguments import (
    check_memory,
    check_named_state,
    check_own_batch,
    checked_average,
    checked_choices,
    checked_device,
    checked_measuring_options,
    checked_num,
    checked_observers,
    checked_seed,
    checked_show,
    checked_training_options,
    memory_explained,
    named_observers,
)
from diffkit.plugins.events import Events
from diffkit.plugins.host import Host
from diffkit.sampling.options import Choice, SamplingOptions
from diffkit.sampling.run import SamplingRun, decoded
from diffkit.sampling.shares import drawn_alone, gathered, share_of
from diffkit.sampling.source import SampleSource
from diffkit.storage import run_directory
from diffkit.storage.weights import Weights
from diffkit.training.observed_run import Looking, ObservedRun
from diffkit.training.own_loop import OwnLoop
from diffkit.training.start import prepared_training


class Pipeline:
    """A diffusion model: checked components, their weights, and what one does with them.

    Made by `diffkit.build` or `diffkit.load`.
    """

    def __init__(self, assembly: Assembly, host: Host) -> None:
        self._assembly, self._host = assembly, host
        self._weights = Weights(System(assembly.components, assembly.spec.precision).eval())
        self._on_demand, self._networks, self._trains = OnDemand(), Networks(), False
        self._own_loop: OwnLoop | None = None

    @property
    def spec(self) -> PipelineSpec:
        """The spec, with every default written out."""
        return self._assembly.spec

    @property
    def host(self) -> Host:
        """Where its components were found."""
        return self._host

    @property
    def parts(self) -> Components:
        """The components."""
        return self._weights.system.parts

    @property
    def system(self) -> System:
        """The module that holds every component with parameters; its weights are the latest."""
        return self._weights.system

    @property
    def average(self) -> System | None:
        """The first average of the weights, which samples are drawn with, where there is one."""
        return self._weights.average

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._weights.system.device

    def to(self, device: str | torch.device) -> Pipeline:
        """Move the weights; returns the pipeline. Raises SpecError: there is no such device."""
        device = checked_device(device)
        self._about_to_change("to")
        self._own_loop = None
        self._weights.placed(device)
        return self

    def dataset(self) -> Dataset:
        """The dataset that the spec names. Raises SpecError where it names none."""
        return self._on_demand.dataset(self._assembly)

    def train(
        self,
        dataset: Dataset | None = None,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        checkpoint: run_directory.Which = "last",
        observers: Iterable[object] = (),
        progress: bool | None = None,
        **training: Any,
    ) -> Pipeline:
        """Train, and return the pipeline.

        A pipeline that was trained by an earlier call, without `resume`, makes `steps` more
        updates: as if all had been made in one call. One that was loaded has its weights alone,
        and begins anew with them.

        Args:
            dataset: the data; default the spec's.
            out: the run directory, for checkpoints, metrics and the spec. None keeps nothing.
            resume: go on from a checkpoint in `out`, to `steps` updates in all; from the beginning
                where training there ended before the first.
            checkpoint: which one: the last, the best, or that after so many updates. Later ones are
                then moved to `out/superseded`.
            observers: objects with `@diffkit.hookimpl` methods; and by name, or as `{id, config}`,
                those that `training.observers` is to hold in this training.
            progress: show a bar; None shows it on a terminal only.
            training: fields of the spec's `training` to change: `steps=2000`, `batch_size=64`.

        Raises:
            SpecError: a training field is unknown or out of range.
            DataError: the data are empty or of another shape or range, or a value of the first
                batches is beyond the range.
            TrainingError: a loss or a gradient is not finite; or another process of the run died.
            TrainingInterrupted: SIGINT or SIGTERM came; a checkpoint was written.
            CheckpointError: `out` holds another run, is being trained, or cannot be written; or it
                cannot be resumed with this spec.
        """
        named, watching = named_observers(observers)
        if named:
            training = {**training, "observers": named}
        options = checked_training_options(dataset, out, resume, checkpoint, watching, progress)
        self._about_to_change("train")
        self._own_loop = None
        assembly = with_training_changed(self._assembly, training, self._host)
        prepared = prepared_training(
            self._weights,
            assembly,
            self.dataset if dataset is None else lambda: dataset,
            options,
            self._host,
            Looking(self._drawn_alone, self._measured_alone),
        )
        with memory_explained("training.batch_size"), prepared as trainer:
            self._assembly, self._trains = assembly, True
            try:
                trainer.train(options.progress)
            finally:
                self._trains = False
        return self

    def loss(
        self,
        x_0: Tensor,
        condition: Given | None = None,
        *,
        step: int | None = None,
        module: nn.Module | None = None,
    ) -> LossRecord:
        """The loss of each sample, for a loop of one's own; reduce and differentiate `values`.

        Times, noise, dropped conditions and the dropout of layers are those of update number `step`
        of `train`. The network is in training mode where gradients are enabled, and in evaluation
        mode without: then the number is not counted.

        Args:
            x_0: clean data `[b, *shape]`, as the network sees them: in latents where it works in
                these. With processes launched each gives its own rows, as many as the others.
            condition: raw ones by name, one row a sample, as a dataset has them.
            step: which update's randomness; default the next one, counted from the updates made.
            module: what is called in the place of `system`, such as its wrapper in DDP.

        Raises:
            DataError: data or conditions of another shape.
            ComponentError: the loss gives no record.
        """
        check_own_batch(x_0, condition, module)
        number = None if step is None else whole(step, "step", least=0)
        self._not_while_training("loss")
        return self._own().loss(x_0, condition, number, module)

    def update_average(self) -> None:
        """After an update in a loop of one's own: every average of the spec follows, and the update
        is counted. Without it, samples are drawn with the weights as they are.
        """
        self._about_to_change("update_average")
        self._own().update_average()

    def optimizer(self) -> torch.optim.Optimizer:
        """The spec's optimiser of everything that trains, for a loop of one's own.

        The `lr` of its groups is a multiple of the learning rate, so that
        `LambdaLR(optimizer, pipeline.learning_rate)` follows the spec's law.

        Raises:
            ComponentError: it leaves a weight out, or takes one twice.
        """
        return self._own().optimizer()

    def learning_rate(self, step: int) -> float:
        """What the spec says of update number `step`, from 0, of its `training.steps`."""
        return self._own().learning_rate(whole(step, "step", least=0))

    def sample(
        self,
        num: int,
        *,
        seed: int = 0,
        sampler: Choice | None = None,
        steps: int | None = None,
        spacing: Choice | None = None,
        schedule: Choice | None = None,
        process: Choice | None = None,
        guidance: Choice | None = None,
        condition: Given | None = None,
        inputs: Mapping[str, Tensor] | None = None,
        precision: Precision | None = None,
        compile: Compilation | None = None,
        clip: bool | Mapping[str, Any] | None = None,
        average: str | None = None,
        batch_size: int = 64,
        observers: Iterable[object] = (),
        progress: bool | None = None,
    ) -> Tensor:
        """Draw `num` samples, `[num, *shape]`, on the host.

        Sample i depends on the seed and on i alone, not on `batch_size`, nor on how many
        processes were launched; they share the work, and each returns all samples. Another
        sampler, spacing, schedule or process can be used without training again. Samples that
        are not finite are returned, and warned of once, with their numbers.

        Args:
            num: how many, at least 1.
            seed: of the noise.
            sampler: instead of the spec's.
            steps: of the trajectory; default the spec's, else as many as the schedule has.
            spacing: instead of the spec's.
            schedule: instead of the one trained with; equal log-SNR is what counts.
            process: instead of the one trained with.
            guidance: instead of the spec's.
            condition: what samples are to be of: by name, one row a sample, or one for all; texts
                and numbers in lists, or tensors. An encoder's may be left out: then of anything.
            inputs: what the sampler asks for beside noise, likewise; with an autoencoder, latents.
            precision: of the network, instead of the spec's.
            compile: the network, instead of as the spec says.
            clip: the predicted x_0 to the data's range in each step, instead of as the spec says;
                or how, `{"dynamic": 0.995}`, `{"before_guidance": True}`: see `ClipSpec`.
            average: the weights to sample with, by the name of their average; `latest` is those in
                training. Default the first average, where there is one.
            batch_size: how many at a time.
            observers: objects with `@diffkit.hookimpl` methods.
            progress: show a bar; None shows it on a terminal only.

        Raises:
            SpecError: a choice is wrong, or does not go with the rest.
            ComponentError: the trajectory needs a noise level that the network never saw.
        """
        run = self._plan(
            num,
            sampler=sampler,
            steps=steps,
            spacing=spacing,
            schedule=schedule,
            process=process,
            guidance=guidance,
            condition=condition,
            inputs=inputs,
            precision=precision,
            compile=compile,
            clip=clip,
            average=average,
        )
        check_memory("num", run.num, run.sample_shape, "take them in turn from batches()")
        share = self._batches(run, seed, batch_size, observers, progress)
        return gathered(run, share, getattr(torch, self.parts.dtype))

    def batches(
        self,
        num: int,
        *,
        seed: int = 0,
        batch_size: int = 64,
        observers: Iterable[object] = (),
        progress: bool | None = None,
        **choices: Unpack[SamplingOptions],
    ) -> Iterator[tuple[range, Tensor]]:
        """The samples that `sample` gives, in batches with their numbers, as they are finished.

        For more samples than memory holds. Where several processes were launched, each yields its
        own share. The arguments are `sample`'s.
        """
        run = self._plan(num, **choices)
        return self._batches(run, seed, batch_size, observers, progress)

    def trajectory(
        self,
        num: int,
        *,
        seed: int = 0,
        **choices: Unpack[SamplingOptions],
    ) -> Iterator[State]:
        """The states on the way from noise to `num` samples; the arguments are `sample`'s.

        With an autoencoder they are latents: see `decoded`.
        """
        run = self._plan(num, **choices)
        return run.states(checked_seed(seed), range(run.num))

    def decoded(self, x: Tensor) -> Tensor:
        """What the states of a trajectory show: latents decoded, or `x` as it is."""
        instance(x, "x", Tensor, "a tensor of states, [b, *shape]")
        return decoded(self.parts.latents, x)

    def encoded(self, dataset: Dataset) -> Dataset:
        """A dataset as the network sees it: in latents where there is an autoencoder."""
        instance(dataset, "dataset", Dataset, "a dataset")
        if self.parts.latents is None:
            return dataset
        return Encoded(dataset=dataset, parts=self.parts, device=self.device)

    def denoiser(
        self,
        *,
        condition: Given | None = None,
        guidance: Choice | None = None,
        schedule: Choice | None = None,
        process: Choice | None = None,
        precision: Precision | None = None,
        clip: bool | Mapping[str, Any] = False,
        average: str | None = None,
    ) -> Denoiser:
        """The network that samples are drawn with, as a denoiser: for sampling, likelihoods and
        inverse problems of one's own.

            denoiser = pipeline.denoiser(condition={"label": 3})
            denoiser(x_t, t).x_0, .epsilon, .score, .velocity

        It can be differentiated in x_t, and in times `[b]`, in forward mode too.

        Args:
            condition: as in `sample`: one row for all, or one for each sample of a batch.
            guidance: None: it is not guided, whatever the spec says.
            schedule: instead of the one trained with; equal log-SNR is what counts.
            process: instead of the one trained with.
            precision: of the network, instead of the spec's.
            clip: the predicted x_0 to the data's range, or how, as in `sample`.
            average: as in `sample`.

        Raises:
            SpecError, DataError: a choice is wrong, or does not go with the rest.
        """
        choices = SamplingOptions(
            condition=condition,
            guidance=guidance,
            schedule=schedule,
            process=process,
            precision=precision,
            clip=clip,
            average=average,
        )
        return self._source.denoiser(checked_choices(choices))

    def evaluate(
        self,
        samples: Tensor | None = None,
        *,
        of: Batch | None = None,
        num: int | None = None,
        metric: Choice | None = None,
        features: Choice | None = None,
        dataset: Choice | None = None,
        seed: int = 0,
        **choices: Unpack[SamplingOptions],
    ) -> dict[str, float]:
        """The values of a metric on a dataset, the spec's unless others are given.

        Args:
            samples: of a metric that looks at samples: these, or new ones.
            of: the data whose conditions these were made of, row by row, for metrics of pairs.
            num: how many new ones; default as many as the metric asks for.
            metric: instead of the spec's.
            features: instead of the spec's, for metrics that are made with some.
            dataset: instead of the spec's.
            seed: of new samples, and of what the metric draws.
            choices: of new samples: `sample`'s `sampler`, `steps`, `guidance` and so on. Their
                conditions are those of data that are drawn at random.

        Raises:
            DataError, SpecError: a choice is wrong, or does not go with the rest.
        """
        others = {"metric": metric, "features": features, "dataset": dataset}
        asked = checked_measuring_options(samples, of, num, others, seed, choices)
        return dict(self._measured(asked, self.sample).values)

    def measure(
        self,
        samples: Tensor | None = None,
        *,
        of: Batch | None = None,
        num: int | None = None,
        metric: Choice | None = None,
        features: Choice | None = None,
        dataset: Choice | None = None,
        seed: int = 0,
        **choices: Unpack[SamplingOptions],
    ) -> Measured:
        """What `evaluate` gives, with the curves that belong to it, if any."""
        others = {"metric": metric, "features": features, "dataset": dataset}
        asked = checked_measuring_options(samples, of, num, others, seed, choices)
        return self._measured(asked, self.sample)

    def save(self, directory: str | Path) -> Path:
        """Write the spec and the weights to a directory, which `diffkit.load` reads.

        Raises:
            SpecError: a component cannot be named in a file.
            CheckpointError: the directory holds a training run, or later weights, or cannot be
                written; what was there is untouched.
        """
        directory = path(directory, "directory")
        self._assembly.check_saveable()
        self._weights.save(directory, self.spec.model_dump(mode="json"))
        return directory

    def restore(
        self,
        checkpoint: str | Path,
        *,
        nonfinite: Nonfinite = "refuse",
        average: str | None = None,
    ) -> Pipeline:
        """Take the weights of a checkpoint folder, to be sampled with this average.

        Raises CheckpointError where they do not fit, or are not finite unless that is allowed;
        SpecError where there is no such average.
        """
        checkpoint = path(checkpoint, "checkpoint")
        nonfinite = one_of(nonfinite, "nonfinite", get_args(Nonfinite))
        average = checked_average(average)
        self._about_to_change("restore")
        self._own_loop = None
        self._weights.restore(checkpoint, nonfinite)
        self._weights.preferred = average
        self._weights.sampled()
        return self

    def take_average(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Have an average of this name with this state, which samples are then drawn with.

        Training again keeps the averages of the spec alone.

        Raises:
            SpecError: it cannot be called so, or the state is none.
            CheckpointError: the state is not that of `system`.
        """
        check_named_state(name, state)
        self._about_to_change("take_average")
        self._weights.take_average(name, state)

    @property
    def _source(self) -> SampleSource:
        return SampleSource(self._assembly, self._host, self._weights, self._networks, self._trains)

    def _plan(self, num: int, **choices: Unpack[SamplingOptions]) -> SamplingRun:
        """Raises TypeError for a choice that there is not, as any function does."""
        return self._source.plan(checked_num(num), checked_choices(choices))

    def _batches(
        self, run: SamplingRun, seed: int, size: int, observers: Iterable[object], show: bool | None
    ) -> Iterator[tuple[range, Tensor]]:
        seed, size = checked_seed(seed), whole(size, "batch_size", least=1)
        check_memory("batch_size", min(size, run.num), run.shape, "take fewer at a time")
        observers, show = checked_observers(observers), checked_show(show)
        events = Events(self._host.load_hooks(), observers)
        told = ObservedRun(None, self.spec.model_dump(mode="json"))
        with memory_explained("batch_size"):
            yield from share_of(run, seed, size, show, partial(events.sample, told))

    def _drawn_alone(
        self,
        go_on: Callable[[], None],
        num: int,
        *,
        seed: int = 0,
        batch_size: int = 64,
        **choices: Unpack[SamplingOptions],
    ) -> Tensor:
        """Samples drawn by this process, which stops where `go_on` raises."""
        run, size = self._plan(num, **choices), whole(batch_size, "batch_size", least=1)
        check_memory("num", run.num, run.sample_shape, "take fewer")
        return drawn_alone(run, checked_seed(seed), size, go_on)

    def _measured(
        self,
        asked: MeasuringOptions,
        draw: Callable[..., Tensor],
        go_on: Callable[[], None] | None = None,
    ) -> Measured:
        metric, data = self._on_demand.to_measure(self._assembly, asked.others, self._host)
        check_data(data, self.parts)
        if isinstance(metric, SampleMetric):
            return measured_by_samples(metric, data, self.parts, asked, draw)
        assert isinstance(metric, ModelMetric)
        asked.check_without_samples(metric)
        system, network = self._source.network({})
        clipping = self._source.clipping(system)
        network = network if go_on is None else asked_while(go_on, network)
        return measured_by_model(metric, self.encoded(data), system, network, clipping, asked.seed)

    def _measured_alone(
        self,
        go_on: Callable[[], None],
        metric: Choice | None = None,
        *,
        seed: int = 0,
        num: int | None = None,
        features: Choice | None = None,
        dataset: Choice | None = None,
        **choices: Unpack[SamplingOptions],
    ) -> dict[str, float]:
        """The values of a metric, measured by this process, which stops likewise."""
        others = {"metric": metric, "features": features, "dataset": dataset}
        asked = checked_measuring_options(None, None, num, others, seed, choices)
        return dict(self._measured(asked, partial(self._drawn_alone, go_on), go_on).values)

    def _own(self) -> OwnLoop:
        if self._own_loop is None:
            components = training_components(self._assembly)
            self._own_loop = OwnLoop(self._weights, components, self.spec)
        return self._own_loop

    def _about_to_change(self, what: str) -> None:
        """Networks were made of weights that are about to be others, or elsewhere."""
        self._not_while_training(what)
        self._networks.clear()

    def _not_while_training(self, what: str) -> None:
        if self._trains:
            raise SpecError([f"{what}: this pipeline is being trained; observers may only look on"])
