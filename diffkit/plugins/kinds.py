"""The kinds of component and the verbs: what plugins add to, and must not replace."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of component. Its entry-point group is `diffkit.<name>.v<version>`."""

    name: str
    version: int
    interface: str
    """Where its base class is: `module:class`."""

    @property
    def group(self) -> str:
        """The entry-point group of this version of the interface."""
        return f"diffkit.{self.name}.v{self.version}"


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("schedule", 1, "diffkit.core.schedule:NoiseSchedule"),
        Kind("process", 1, "diffkit.core.process:ForwardProcess"),
        Kind("model", 1, "diffkit.core.model:EpsilonModel"),
        Kind("loss", 1, "diffkit.core.loss:Loss"),
        Kind("sampler", 1, "diffkit.core.sampler:Sampler"),
        Kind("parameterization", 1, "diffkit.core.parameterization:Parameterization"),
        Kind("times", 1, "diffkit.core.times:TrainingTimes"),
        Kind("weighting", 1, "diffkit.core.weighting:Weighting"),
        Kind("spacing", 1, "diffkit.core.spacing:Spacing"),
        Kind("encoder", 1, "diffkit.core.encoder:Encoder"),
        Kind("guidance", 1, "diffkit.core.guidance:Guidance"),
        Kind("autoencoder", 1, "diffkit.core.autoencoder:Autoencoder"),
        Kind("dataset", 1, "diffkit.core.dataset:Dataset"),
        Kind("features", 1, "diffkit.core.metric:FeatureExtractor"),
        Kind("metric", 1, "diffkit.core.metric:Metric"),
        Kind("optimizer", 1, "diffkit.core.optimizer:Optimizer"),
        Kind("learning-rate", 1, "diffkit.core.learning_rate:LearningRate"),
        Kind("average", 1, "diffkit.core.average:Average"),
        Kind("augmentation", 1, "diffkit.core.augmentation:Augmentation"),
        Kind("observer", 1, "diffkit.core.observer:Observer"),
    )
}
"""Every kind, in the order in which people meet them."""

HOOKS_GROUP = "diffkit.hooks.v1"
"""The entry-point group of modules with hook implementations."""

COMMANDS_GROUP = "diffkit.command.v1"
"""The entry-point group of click commands that become verbs of `diffkit`."""

VERBS: dict[str, str] = {
    "list": "List the components that are installed.",
    "show": "Describe a component and its arguments.",
    "train": "Train a pipeline.",
    "sample": "Draw samples from a trained run.",
    "eval": "Measure how good a run's samples are.",
    "demo": "Train on handwritten digits in a minute, and look at the result.",
    "check": "Run the conformance kit on components.",
    "doctor": "Import every plugin on its own, and say what is wrong.",
    "new-plugin": "Write a package of components to begin with.",
}
"""The verbs of `diffkit` itself, with their lines in the help; no plugin's command replaces one."""

LOCAL = "local"
"""The namespace of components from files that the user names."""
