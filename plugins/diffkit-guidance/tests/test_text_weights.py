"""A text encoder is what its folder holds, or it is an error that lists the difference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import diffkit
from diffkit_guidance.pretrained import PretrainedText

from .guidance_runs import clip_folder

transformers = pytest.importorskip("transformers")
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 64,
}


def bert(folder: Path, kind: str = "BertModel") -> Path:
    """A model of words, with a tokenizer of its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, kind)(transformers.BertConfig(**SIZES)).save_pretrained(folder)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = {word: index for index, word in enumerate([*special, "a", "red", "blue", "hat"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **dict(zip(names, special, strict=True))
    ).save_pretrained(folder)
    return folder


def edited(change):
    def edit(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = {name: value.clone() for name, value in load_file(path).items()}
        save_file(change(tensors), path, metadata={"format": "pt"})

    return edit


def configured(**changes):
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def without_tokenizer(folder: Path) -> None:
    for path in (*folder.glob("*token*"), *folder.glob("vocab*")):
        path.unlink()


def another_tokenizer(folder: Path) -> None:
    without_tokenizer(folder)
    other = clip_folder()
    for path in (*other.glob("*token*"), *other.glob("vocab*"), *other.glob("merges*")):
        shutil.copy(path, folder)


def first(tensors: dict) -> str:
    return sorted(name for name in tensors if "attention" in name)[0]


WRONG = {
    "no weight": (edited(lambda t: {"x": torch.zeros(1)}), "lacks .* would be random"),
    "one missing": (edited(lambda t: {k: v for k, v in t.items() if k != first(t)}), "lacks"),
    "prefix": (edited(lambda t: {f"net.{k}": v for k, v in t.items()}), "lacks"),
    "not finite": (
        edited(lambda t: {**t, first(t): t[first(t)] * float("nan")}),
        "not finite",
    ),
    "fewer layers": (configured(num_hidden_layers=1), "smaller than the file"),
    "more layers": (configured(num_hidden_layers=3), "lacks encoder.layer.2"),
    "no tokenizer": (without_tokenizer, "no tokenizer|load tokenizer"),
    "broken": (lambda d: (d / "model.safetensors").write_bytes(b"x"), "cannot be read"),
    "configuration": (lambda d: (d / "config.json").write_text("[]"), "cannot be read"),
    "another network": (configured(hidden_size=32), "shape|cannot be read"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_not_the_folders_is_refused(kind, tmp_path) -> None:
    change, words = WRONG[kind]
    folder = bert(tmp_path / "bert")
    PretrainedText(name=str(folder), length=4)
    change(folder)
    with pytest.raises(diffkit.ComponentError, match=words):
        PretrainedText(name=str(folder), length=4)


def test_a_pooler_that_no_hidden_state_needs_may_be_missing(tmp_path) -> None:
    """As in every masked language model, whose head is there besides."""
    folder = bert(tmp_path / "bert", "BertForMaskedLM")
    encoder = PretrainedText(name=str(folder), length=4)
    trained = load_file(folder / "model.safetensors")
    embeddings = encoder._fixed[0].network.embeddings.word_embeddings.weight
    assert torch.equal(embeddings, trained["bert.embeddings.word_embeddings.weight"])


def test_the_half_of_clip_that_reads(tmp_path) -> None:
    """The file also holds the half that sees, whose layers are called alike."""
    half = {**SIZES, "vocab_size": 600}
    config = transformers.CLIPConfig(
        text_config=half,
        vision_config={**SIZES, "image_size": 8, "patch_size": 4},
        projection_dim=8,
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    for path in clip_folder().iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy(path, tmp_path)
    PretrainedText(name=str(tmp_path), length=4)
    path = tmp_path / "config.json"
    found = json.loads(path.read_text())
    found["text_config"]["num_hidden_layers"] = 1
    path.write_text(json.dumps(found))
    with pytest.raises(diffkit.ComponentError, match=r"smaller than the file.*encoder\.layers\.1"):
        PretrainedText(name=str(tmp_path), length=4)
