"""Small runs, and a small text encoder of transformers, made once."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch

import diffkit

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [1, 8, 8], "range": [-1.0, 1.0]},
}


@cache
def folder() -> Path:
    made = tempfile.TemporaryDirectory(prefix="diffkit-guidance-")
    _KEPT.append(made)
    return Path(made.name)


_KEPT: list[tempfile.TemporaryDirectory] = []


@cache
def unconditional_run() -> Path:
    """A run whose network is far from its zeros."""
    pipeline = diffkit.build(SPEC, device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pipeline.system.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return pipeline.save(folder() / "worse")


@cache
def classifier_folder() -> Path:
    """A classifier of the kit's benches, with random weights."""
    from diffkit.testing import Fixtures
    from diffkit_guidance.noisy_classifier import Architecture, Network, write_classifier

    sizes = Architecture(channels=Fixtures().shape[0], classes=10, width=8, multipliers=(1, 2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        write_classifier(folder() / "classifier", Network(sizes), sizes)
    return folder() / "classifier"


@cache
def clip_folder() -> Path:
    """A text encoder of CLIP's kind with random weights, and a tokenizer of characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

    letters = [chr(c) for c in range(32, 127)]
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<?>", *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<?>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    path = folder() / "clip"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<?>",
    ).save_pretrained(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            bos_token_id=1,
            eos_token_id=2,
        )
        CLIPTextModel(config).save_pretrained(path)
    return path
