"""Features learnt from the data's own labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, final

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional

from diffkit.core.component import Config, Facts
from diffkit.core.dataset import Dataset
from diffkit.core.example import Example
from diffkit.core.metric import Embedding, FeatureExtractor
from diffkit.core.noise import mix
from diffkit.core.random_state import seeded
from diffkit.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

_CHUNK = 500
_SMALLEST_MAP = 4
_LARGEST_STEM = 32


@final
class Classifier(FeatureExtractor):
    """The last hidden layer of a small convolutional classifier, trained on the data's labels.

    What Inception's pooled layer is to natural images (Heusel et al., 2017) this is to small
    ones, which Inception never saw: features that tell the classes apart. Distances in it compare
    only with distances in the same features: same data, seed and configuration. The defaults take
    seconds for 8x8 images, and half a minute for 28x28 ones on two processor cores.

    Args:
        width: channels of the first layer; deeper ones have up to four times as many.
        features: the number of features.
        steps: how many updates it is trained for.
        batch_size: samples in an update, drawn with replacement.
        learning_rate: the largest one; it rises and falls in one cycle.
    """

    def __init__(
        self,
        *,
        width: Annotated[int, Ge(1)] = 24,
        features: Annotated[int, Ge(1)] = 64,
        steps: Annotated[int, Ge(2)] = 500,
        batch_size: Annotated[int, Ge(2)] = 128,
        learning_rate: Annotated[float, Gt(0)] = 4e-3,
    ) -> None:
        self._width = width
        self._features = features
        self._steps = steps
        self._batch_size = batch_size
        self._learning_rate = learning_rate

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Data that are images."""
        shape = facts.get("data.shape")
        if shape is not None and len(shape) != 3:
            yield _not_images(tuple(shape))

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """A quick one."""
        return [Example({"steps": 5})]

    def fit(self, dataset: Dataset, seed: int) -> Embedding:
        """Train on all of the data; the same on every call with the same `seed`.

        The global generators are left as they were, and a caller's `no_grad` does not matter.
        The embedding gives float32 on the host, `[b, features]`, non-negative.

        Raises:
            DataError: the data are not images, have no labels, or fewer than two classes. The
                embedding raises it for samples of another shape.
        """
        if len(dataset.shape) != 3:
            raise DataError(_not_images(dataset.shape))
        with torch.inference_mode(False), torch.enable_grad():
            classes, targets = _targets(dataset)
            network = self._initial(dataset.shape, classes, mix(seed, "classifier", "weights"))
            self._train(network, dataset, targets, mix(seed, "classifier", "order"))
        return _embedding(network.eval().requires_grad_(False), dataset.shape)

    def _initial(self, shape: tuple[int, ...], classes: int, seed: int) -> _Network:
        with seeded(seed):
            return _Network(shape, classes, self._width, self._features).to(torch.float32)

    def _train(
        self, network: _Network, dataset: Dataset, targets: Int64[Tensor, " n"], seed: int
    ) -> None:
        rate = self._learning_rate
        optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=self._steps)
        generator = torch.Generator().manual_seed(seed)
        network.train()
        for _ in range(self._steps):
            rows = torch.randint(len(dataset), (self._batch_size,), generator=generator)
            logits = network(dataset.batch(rows.tolist()).x_0)
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(logits, targets[rows]))
            optimizer.step()
            cycle.step()


class _Network(nn.Module):
    """Convolutions down to a 4x4 map, a hidden layer (`trunk` ends with it), and logits."""

    def __init__(self, shape: tuple[int, ...], classes: int, width: int, features: int) -> None:
        super().__init__()
        channels, height, width_in = shape
        sides = [height, width_in]
        # Full resolution is where the time goes, and large images can spare it.
        layers: list[nn.Module] = []
        incoming, outgoing, stride = channels, width, 2 if max(sides) > _LARGEST_STEM else 1
        while True:
            layers += [
                nn.Conv2d(incoming, outgoing, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(outgoing),
                nn.ReLU(),
            ]
            sides = [-(-side // stride) for side in sides]
            if max(sides) <= _SMALLEST_MAP:
                break
            incoming, outgoing, stride = outgoing, min(2 * outgoing, 4 * width), 2
        hidden = nn.Linear(outgoing * sides[0] * sides[1], features)
        self.trunk = nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU())
        self.head = nn.Linear(features, classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        logits: Tensor = self.head(self.trunk(x))
        return logits


def _embedding(network: _Network, shape: tuple[int, ...]) -> Embedding:
    def embed(samples: Float[Tensor, "b c h w"]) -> Float[Tensor, "b features"]:
        if tuple(samples.shape[1:]) != shape:
            raise DataError(
                f"classifier: samples of the shape {tuple(samples.shape[1:])} cannot be compared "
                f"with data of the shape {shape} that the features were trained on"
            )
        with torch.no_grad():
            chunks = torch.split(samples.detach().to("cpu", torch.float32), _CHUNK)
            return torch.cat([network.trunk(chunk) for chunk in chunks])

    return embed


def _targets(dataset: Dataset) -> tuple[int, Int64[Tensor, " n"]]:
    """The number of classes, and the class of each sample, counted from 0 without gaps."""
    chunks: list[Tensor] = []
    for start in range(0, len(dataset), _CHUNK):
        batch = dataset.batch(range(start, min(start + _CHUNK, len(dataset))))
        label = batch.condition.get("label")
        if label is None:
            found = ", ".join(sorted(batch.condition)) or "none"
            raise DataError(
                f"classifier: {type(dataset).__name__} has no condition 'label' to learn features "
                f"from (its conditions: {found}); give it labels, or choose another feature "
                "extractor"
            )
        if label.shape != (len(batch),) or label.is_floating_point():
            raise DataError(
                f"classifier: the labels are {label.dtype} {tuple(label.shape)}; features are "
                "learnt from one whole number for each sample: choose another feature extractor"
            )
        chunks.append(label)
    classes, targets = torch.unique(torch.cat(chunks), return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            "classifier: all data have the same label, so that there is nothing to tell apart; "
            "choose another feature extractor"
        )
    return len(classes), targets


def _not_images(shape: tuple[int, ...]) -> str:
    return (
        f"classifier: its features are of images (channels, height, width), but the data have the "
        f"shape {shape}; choose another feature extractor"
    )
