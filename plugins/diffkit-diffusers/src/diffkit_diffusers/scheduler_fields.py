"""The configuration of diffusers' DDPM and DDIM schedulers against diffkit's components.

One scheduler of diffusers is a schedule, a parameterization, a spacing and a sampler in one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffkit_diffusers.folder import header, is_one_of

STEPS = 1000
"""T: diffkit's networks are told 1000 t, so only there is diffusers' index a shift of it."""

_SCHEDULES = {"linear": "diffkit.linear", "squaredcos_cap_v2": "diffkit.cosine"}
_PREDICTIONS = {
    "epsilon": "diffkit.epsilon",
    "sample": "diffkit.x_0",
    "v_prediction": "diffkit.velocity",
}
_SPACINGS = {"trailing": "diffkit.trailing", "leading": "diffkit.leading"}
_VARIANCES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",  # The same variance by way of its logarithm.
    "fixed_large": "fixed_large",
}
_IMAGES = (-1.0, 1.0)
"""The range of diffusers' images, wherever their predictions are clipped."""
_OWN_SAMPLER = "diffusers.scheduler"


def import_problems(config: Mapping[str, Any], ddim: bool) -> list[str]:
    """What diffkit's components cannot express of a scheduler, each key with its value."""
    needed: dict[str, tuple[Any, ...]] = {
        "num_train_timesteps": (STEPS,),
        "beta_schedule": tuple(_SCHEDULES),
        "trained_betas": (None,),
        "prediction_type": tuple(_PREDICTIONS),
        "thresholding": (False,),
        "timestep_spacing": tuple(_SPACINGS),
        "rescale_betas_zero_snr": (False,),
        "clip_sample": (False, True),
    }
    if ddim:
        needed["set_alpha_to_one"] = (True,)
    else:
        needed["variance_type"] = tuple(_VARIANCES)
    if config["timestep_spacing"] == "leading":
        needed["steps_offset"] = (0,)
    problems = [
        f"{key} = {config[key]!r} (it must be {' or '.join(map(repr, allowed))})"
        for key, allowed in needed.items()
        if not is_one_of(config[key], allowed)
    ]
    known = {*needed, *_UNUSED, *_NUMBERS, "set_alpha_to_one", "variance_type", "steps_offset"}
    problems += [f"{key} = {config[key]!r} (an unknown key)" for key in config if key not in known]
    problems += [
        f"{key} = {config[key]!r} (it must be a positive number)"
        for key in _NUMBERS
        if isinstance(config[key], bool)
        or not isinstance(config[key], int | float)
        or config[key] <= 0
    ]
    if not ddim and _clips_elsewhere(config) and config["timestep_spacing"] == "trailing":
        problems.append(
            f"clip_sample_range = {config['clip_sample_range']!r} (with timestep_spacing = "
            f"'trailing' it must be {_IMAGES[1]}: the sampler 'ddpm' clips to the data's range "
            f"{list(_IMAGES)}, and DDPMScheduler adds noise in the last step of such a trajectory)"
        )
    return problems


_NUMBERS = ("beta_start", "beta_end", "clip_sample_range")
_UNUSED = ("dynamic_thresholding_ratio", "sample_max_value")  # Read with thresholding only.


def imported(config: Mapping[str, Any], ddim: bool, has_samplers: bool) -> dict[str, Any]:
    """The fields of a spec that sample like this scheduler, which has no `import_problems`."""
    schedule: dict[str, Any] = {"id": _SCHEDULES[config["beta_schedule"]]}
    if config["beta_schedule"] == "linear":
        first, last = float(config["beta_start"]), float(config["beta_end"])
        schedule["config"] = {
            "steps": STEPS,
            "beta_first": first,
            "beta_last": last,
            "rescale": False,
        }
    return {
        "schedule": schedule,
        "parameterization": _PREDICTIONS[config["prediction_type"]],
        "spacing": _SPACINGS[config["timestep_spacing"]],
        "sampler": _ddim(config, has_samplers) if ddim else _ddpm(config),
        "data_range": _IMAGES,
        "clip": config["clip_sample"],
        "steps": 50 if ddim else None,
    }


def _clips_elsewhere(config: Mapping[str, Any]) -> bool:
    """Whether predictions are clipped to another range than the data's."""
    return bool(config["clip_sample"]) and config["clip_sample_range"] != _IMAGES[1]


def _ddpm(config: Mapping[str, Any]) -> dict[str, Any]:
    """The bundled ancestral sampler; diffusers' own where it clips to another range."""
    if _clips_elsewhere(config):
        return _sampled_by("DDPMScheduler", config, {"variance_type": config["variance_type"]})
    variance = _VARIANCES[config["variance_type"]]
    return {"id": "diffkit.ddpm", "config": {"variance": variance}}


def _ddim(config: Mapping[str, Any], has_samplers: bool) -> dict[str, Any]:
    """diffkit-samplers' DDIM where it is the same; else diffusers' own scheduler.

    Clipping x_0, diffusers keeps the epsilon that belongs to the unclipped one, and diffkit
    derives it anew. On `trailing` times it always steps `T // S` indices down, and so misses its
    own next time where S does not divide T; its sampler refuses such S.
    """
    same = not config["clip_sample"] and config["timestep_spacing"] == "leading"
    if has_samplers and same:
        return {"id": "samplers.ddim", "config": {"eta": 0.0}}
    return _sampled_by("DDIMScheduler", config, {})


def _sampled_by(
    scheduler: str, config: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The sampler that samples with diffusers' scheduler, as this folder configures it."""
    options = {**options, "clip_sample": config["clip_sample"]}
    if config["clip_sample"]:
        options["clip_sample_range"] = config["clip_sample_range"]
    given: dict[str, Any] = {"scheduler": scheduler, "options": options}
    if config["prediction_type"] == "sample":
        # As it is: diffusers' tables know epsilon of a nearly clean x_t to four digits only.
        given["feed"] = "sample"
    return {"id": _OWN_SAMPLER, "config": given}


def export_problems(
    spec: Mapping[str, Any], data_range: tuple[float, float] | None, ddim: bool
) -> list[str]:
    """What diffusers' schedulers cannot express of a spec, each field with its value."""
    problems = [
        f"{kind} = {spec[kind]['id']!r} (it must be {' or '.join(map(repr, allowed))})"
        for kind, allowed in {
            "process": ("diffkit.variance-preserving",),
            "model": ("diffkit.unet",),
            "schedule": tuple(_SCHEDULES.values()),
            "parameterization": tuple(_PREDICTIONS.values()),
            "spacing": tuple(_SPACINGS.values()),
        }.items()
        if spec[kind]["id"] not in allowed
    ]
    config = spec["schedule"]["config"]
    needed = {"steps": STEPS, "offset": 0.008, "largest_beta": 0.999}
    problems += [
        f"schedule.{key} = {config[key]!r} (it must be {value!r})"
        for key, value in needed.items()
        if key in config and config[key] != value
    ]
    if ddim and spec["spacing"]["id"] == _SPACINGS["trailing"] and not _is_theirs(spec["sampler"]):
        problems.append(
            f"spacing = {spec['spacing']['id']!r} (diffusers' DDIM always steps T // S indices "
            "down, and so misses its own next time where S does not divide T; give the run the "
            "spacing 'leading', or write scheduler='ddpm' and choose a sampler in diffusers)"
        )
    return problems + _sampler_problems(spec, data_range, ddim)


def _is_theirs(sampler: Mapping[str, Any]) -> bool:
    """Whether it is diffusers' DDIM itself, which takes no other steps here either."""
    scheduler: str | None = sampler["config"].get("scheduler")
    return sampler["id"] == _OWN_SAMPLER and scheduler == "DDIMScheduler"


def _sampler_problems(
    spec: Mapping[str, Any], data_range: tuple[float, float] | None, ddim: bool
) -> list[str]:
    config, problems = spec["sampler"]["config"], []
    clips = data_range is not None and spec["clip"]
    if ddim and config.get("eta", 0.0) != 0.0:
        problems.append(f"sampler.eta = {config['eta']!r} (no folder holds it; it must be 0)")
    if ddim and clips:
        problems.append(
            f"clip = {spec['clip']!r} (clipping, diffusers' DDIM keeps the epsilon of the "
            "unclipped x_0; it must be False)"
        )
    if clips and data_range is not None and data_range[0] != -data_range[1]:
        problems.append(
            f"data.range = {list(data_range)} (diffusers clips to [-r, r] only; give such a range, "
            "or set clip to False)"
        )
    return problems


def exported(
    spec: Mapping[str, Any], data_range: tuple[float, float] | None, ddim: bool
) -> dict[str, Any]:
    """The configuration of the scheduler, where there are no `export_problems`."""
    sampler = spec["sampler"]["config"]
    clips = data_range is not None and spec["clip"]
    config: dict[str, Any] = {
        **header("DDIMScheduler" if ddim else "DDPMScheduler"),
        "num_train_timesteps": STEPS,
        "beta_schedule": _named(_SCHEDULES, spec["schedule"]["id"]),
        "prediction_type": _named(_PREDICTIONS, spec["parameterization"]["id"]),
        "timestep_spacing": _named(_SPACINGS, spec["spacing"]["id"]),
        "clip_sample": clips,
        "thresholding": False,
        "steps_offset": 0,
        "rescale_betas_zero_snr": False,
    }
    schedule = spec["schedule"]["config"]
    if "beta_first" in schedule:
        config.update(beta_start=schedule["beta_first"], beta_end=schedule["beta_last"])
    if clips and data_range is not None:
        config["clip_sample_range"] = data_range[1]
    if ddim:
        config["set_alpha_to_one"] = True
    else:
        config["variance_type"] = sampler.get("variance") or "fixed_small"
    return config


def _named(names: Mapping[str, str], full_id: str) -> str:
    return {ours: theirs for theirs, ours in names.items()}[full_id]
