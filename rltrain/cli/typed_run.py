"""What was typed for a run, as its configuration: shared by the verbs that take what ``rltrain train`` takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from rltrain.cli.options import ENV_LISTS, parse_overrides
from rltrain.cli.typed import Kind, kinds_for, kinds_of
from rltrain.config import TrainConfig
from rltrain.errors import ConfigError
from rltrain.naming.arguments import GIVE_ONE, is_blank
from rltrain.naming.environments import typed_env
from rltrain.naming.habits import NOT_OURS, written_as_option
from rltrain.registry import agent_config_class, agent_spec
from rltrain.sb3.rl_zoo import zoo_settings
from rltrain.settings import build_config, canonical, load_config, merge

FILES = ("config", "zoo", "prices", "machine")
KINDS = {"env": Kind(True, False), **{name: Kind(True, False) for name in FILES}}
LISTS = ("trackers", "log_info", *ENV_LISTS)


@dataclass(frozen=True)
class TypedRun:
    """What was typed for a run.

    Attributes:
        config: Its configuration.
        source: Where its defaults are from, in words.
        num_seeds: How many runs train at once; what was typed, which nobody has checked.
        own: The options of the verb itself, by name.
        prices: The file of prices, if one was given.
    """

    config: TrainConfig
    source: str
    num_seeds: Any
    own: dict[str, Any] = field(default_factory=dict)
    prices: str | None = None


def typed_run(
    verb: str, arguments: Sequence[str], *, flags: Collection[str] = (), texts: Collection[str] = ()
) -> TypedRun:
    """Reads the arguments of a verb that takes an agent, an environment and the options of training.

    Args:
        verb: The verb, for errors.
        arguments: What was typed.
        flags: Options of its own that take no value.
        texts: Options of its own that take text.

    Raises:
        ConfigError: Something does not fit.
    """
    own_kinds = {**KINDS, **{name: Kind(True, False) for name in texts}}
    kinds = {**own_kinds, **dict(kinds_of(TrainConfig))}
    positional, options = parse_overrides(arguments, flags=flags, kinds=kinds, lists=LISTS)
    algo, env_id = [*positional, None, None][:2]
    kinds.update(kinds_for(algo or options.get("algo"), env_id))
    positional, options = parse_overrides(arguments, flags=flags, kinds=kinds, lists=LISTS)  # now with what they take
    own = {name: options.pop(name) for name in (*flags, *texts) if name in options}
    given = {name: options.pop(name, None) for name in FILES}
    for name, value in [*given.items(), *((name, own.get(name)) for name in texts)]:
        if value is True:
            fix = "Name a YAML file." if name in FILES and name != "machine" else "Give one."
            raise ConfigError(f"'--{name.replace('_', '-')}' needs a value.", fix)
        if is_blank(value):
            raise ConfigError(f"'--{name.replace('_', '-')}' is given a blank value: '{value}'.", GIVE_ONE)
    if any(map(is_blank, positional)):
        raise ConfigError("An argument is blank.", f"Usage: rltrain {verb} ALGO ENV [options].")
    if hydras := next(filter(written_as_option, positional), None):
        raise ConfigError(f"'{hydras}' is no option.", f"Options are written {written_as_option(hydras)}")
    if of_others := next((name for name in options if name in NOT_OURS), None):  # before the environment is looked for
        raise ConfigError(f"There is no option '{of_others}'.", NOT_OURS[of_others])
    settings = canonical(options)
    for name, both in zip(positional, (settings.get("algo"), settings.get("env", {}).get("id")), strict=False):
        if both is not None:
            raise ConfigError(f"'{name}' and '{both}' are both given.", "Give one of them.")
    if given["config"] is not None:
        settings = merge(canonical(load_config(given["config"])), settings)
    num_seeds = settings.pop("num_seeds", 1)
    algo = positional.pop(0) if positional else settings.get("algo")
    env_id = typed_env(positional.pop(0)) if positional else settings.get("env", {}).get("id")
    if positional:
        raise ConfigError(f"'{positional[0]}' is too much.", f"Usage: rltrain {verb} ALGO ENV [options].")
    if algo is not None:
        agent_spec(str(algo))
    if env_id is None and algo is not None and isinstance(data := settings.get("data"), str):
        from rltrain.data.environment import recorded_environment

        recorded = recorded_environment(data) if agent_spec(str(algo)).learns_from_data else None
        env_id = None if recorded is None else recorded["id"]
    if algo is None or env_id is None:
        missing = "an agent and an environment" if algo is None else "an environment"
        raise ConfigError(
            f"Name {missing} to train.", f"For example: rltrain {verb} ppo rltrain/CartPole-v1 (or --config FILE)."
        )
    base = None
    if given["zoo"] is not None:
        base = zoo_settings(given["zoo"], str(env_id), agent_config_class(str(algo)).model_fields), str(given["zoo"])
    settings = merge(_charged(given["prices"], given["machine"]), settings)
    config, source = build_config(str(algo), str(env_id), settings, base=base)
    return TypedRun(config, source, num_seeds, own, given["prices"])


def _charged(prices: Any, machine: Any) -> dict[str, Any]:
    """The settings that a file of prices brings."""
    if prices is None:
        if machine is not None:
            raise ConfigError(f"--machine {machine} is one of a file of prices.", "Give --prices FILE too.")
        return {}
    from rltrain.cost.prices import charged, read_prices

    return {"cost": charged(read_prices(prices), machine).model_dump(exclude_none=True)}
