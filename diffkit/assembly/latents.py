"""The space of latents that a pipeline works in, and the autoencoder that leads there."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

from diffkit.core.autoencoder import Autoencoder
from diffkit.errors import ComponentError


class LatentSpace:
    """An autoencoder as it is: nobody trains, saves or copies it. It goes to where its inputs are.

    A class of its own, not a module, so that whoever holds it does not hold its weights.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        shape: tuple[int, ...],
        data_range: tuple[float, float] | None,
    ) -> None:
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self._shape, self._range = shape, data_range

    def __deepcopy__(self, memo: dict[int, Any]) -> LatentSpace:
        return self

    def encode(self, x: Tensor) -> Tensor:
        """The latents, where the samples are, float32."""
        return self._on(x).encode(x).float()

    def decode(self, z: Tensor) -> Tensor:
        """The samples, where the latents are, float32, within the range of the data.

        Raises ComponentError where they have not the shape of the data.
        """
        x = self._on(z).decode(z).float()
        if tuple(x.shape[1:]) != self._shape:
            raise ComponentError(
                f"autoencoder: {type(self.autoencoder).__name__} decodes to the shape "
                f"{list(x.shape[1:])}, and the data have {list(self._shape)}; tell its authors"
            )
        return x if self._range is None else x.clamp(*self._range)

    def digest(self) -> str:
        """SHA-256 of the class, what identifies it, and the weights."""
        found = hashlib.sha256()
        kind = type(self.autoencoder)
        named = [f"{kind.__module__}.{kind.__qualname__}", dict(self.autoencoder.identity())]
        try:
            found.update(json.dumps(named, sort_keys=True).encode())
        except (TypeError, ValueError) as error:
            raise ComponentError(
                f"autoencoder: the identity of {kind.__name__} is no JSON data ({error}), so that "
                "latents cannot be told from another's; override `identity`"
            ) from error
        for name, value in sorted(self.autoencoder.state_dict().items()):
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(bytes_of(value))
        return found.hexdigest()

    def _on(self, given: Tensor) -> Autoencoder:
        held = next(iter(self.autoencoder.state_dict().values()), given)
        if held.device != given.device:
            self.autoencoder.to(given.device)
        return self.autoencoder


def bytes_of(value: Tensor) -> bytes:
    """What a tensor holds, whatever its dtype."""
    flat = value.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
