"""`diffkit show` tells everything that a signature says."""

import json

from click.testing import CliRunner

from diffkit.cli.main import cli


def _show(*arguments):
    result = CliRunner().invoke(cli, ["show", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_arguments_and_origin():
    text = _show("model", "unet")
    assert "model diffkit.unet" in text
    assert "diffkit.bundled.models.unet:UNet" in text
    assert "dropout" in text
    assert ">= 0" in text
    assert "default 0.1" in text
    assert "U-Net of Ho et al." in text


def test_supplied_arguments():
    supplied = _show("model", "unet").partition("Supplied by the pipeline:")[2]
    assert "data.shape" in supplied
    assert "from schedule" in _show("process", "variance-preserving").partition("Supplied")[2]


def test_choices_and_nested_components():
    assert '"fixed_small" | "fixed_large"' in _show("sampler", "ddpm")
    text = _show("loss", "simple")
    assert "a weighting" in text
    assert "default diffkit.none" in text


def test_json_is_the_schema():
    schema = json.loads(_show("sampler", "diffkit.ddpm", "--json"))
    assert schema["properties"]["variance"]["default"] is None


def test_a_component_without_arguments():
    assert "none" in _show("dataset", "digits").partition("Arguments:")[2]


def test_a_plugin_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from diffkit.core.spacing import Spacing\n"
        "class Mine(Spacing):\n"
        "    '''My own.'''\n"
        "    def __init__(self, *, power: float = 2.0) -> None: ...\n"
        "    def times(self, steps, schedule): return (1.0, 0.0)\n"
    )
    text = _show("spacing", "mine", "--plugin-file", str(file))
    assert "local.mine" in text
    assert "default 2.0" in text
