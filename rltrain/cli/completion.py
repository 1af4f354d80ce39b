"""``rltrain completion``: the script by which a shell completes the command line, and the words for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import import_module

from rltrain.cli.options import Parser, look_at
from rltrain.cli.output import say
from rltrain.errors import ConfigError, did_you_mean
from rltrain.plugins import resolve, trackers, verbs

BASH = """_rltrain() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do COMPREPLY+=("$word"); done \\
        < <(rltrain completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _rltrain rltrain"""
ZSH = """(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_rltrain() {
    local -a found
    found=("${(@f)$(rltrain completion words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found[1]" ]]; then compadd -a found; else _files; fi
}
compdef _rltrain rltrain"""
FISH = """function __rltrain_words
    set -l given (commandline -opc)
    set -l now (commandline -ct | string collect --allow-empty)
    rltrain completion words $given[2..] "$now" 2>/dev/null
end
complete -c rltrain -a '(__rltrain_words)'"""
SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
WORDS = "words"
TRAINING = ("train", "sweep", "estimate", "cloud")
"""The verbs that take settings as options."""
DESCRIPTION = (
    "Print the script by which a shell completes verbs, options, environments and agents after the tab key. Put into "
    'its start-up file: eval "$(rltrain completion bash)", the same with zsh, or rltrain completion fish | source.'
)


def main(arguments: list[str]) -> int:
    """Prints a script, or the words that a script asks for: ``rltrain completion words VERB ... BEGINNING``."""
    if arguments[:1] == [WORDS]:
        if found := words(arguments[1:] or [""]):
            say("\n".join(found))
        return 0
    parser = Parser("completion", DESCRIPTION)
    parser.add_argument("shell", metavar="bash|zsh|fish", help="the shell")
    parsed = parser.parse(arguments)
    if parsed.shell not in SHELLS:
        fix = did_you_mean(parsed.shell, SHELLS, f"Known: {', '.join(SHELLS)}.")
        raise ConfigError(f"There is no completion for '{parsed.shell}'.", fix)
    say(SHELLS[parsed.shell])
    return 0


def words(typed: Sequence[str]) -> list[str]:
    """The words that can stand in place of the last one, which was only begun; none where files can.

    Nothing that is typed is imported or run, and no error ends it.

    Args:
        typed: The words after ``rltrain``, the last of them perhaps empty.
    """
    *before, begun = typed
    if not before:
        found: Iterable[str] = [*verbs, "--help", "--version"]
    elif before[0] not in verbs or not str(verbs[before[0]].entry_point).startswith("rltrain.cli."):
        found = ()  # a plugin's verb may do anything when it is called
    else:
        try:
            look = _of_training if before[0] in TRAINING else _of_verb
            found = look(before[0], before[1:], begun)
        except Exception:
            found = ()
    return list(dict.fromkeys(word for word in found if word.startswith(begun)))


def _of_verb(verb: str, before: Sequence[str], begun: str) -> Iterable[str]:
    """The words after a verb whose options are those of its parser; one such as ``data`` has verbs of its own."""
    entry_point = str(verbs[verb].entry_point)
    inner: dict[str, tuple[str, str]] = getattr(import_module(entry_point.partition(":")[0]), "VERBS", {})
    if inner and not before:
        return inner
    if inner:
        entry_point, before = f"rltrain.cli.{inner[before[0]][0]}", before[1:]
    parser = look_at(resolve(entry_point))
    options = {name: action for action in parser._actions for name in action.option_strings}
    if begun.startswith("-"):
        return [*options, "--debug"]
    last = options.get(before[-1]) if before else None
    if last is not None and last.nargs != 0:
        return _values(verb, str(last.metavar or ""), last.choices or (), last.option_strings[-1])
    number = 0
    for word, previous in zip(before, ["", *before], strict=False):
        taken = options.get(previous)
        number += not word.startswith("-") and (taken is None or taken.nargs == 0)
    places = [action for action in parser._actions if not action.option_strings]
    if not places:
        return ()
    place = places[min(number, len(places) - 1)]
    if number >= len(places) and place.nargs not in ("+", "*"):
        return ()
    return _values(verb, str(place.metavar or ""), place.choices or (), "")


def _values(verb: str, metavar: str, choices: Iterable[str], option: str) -> Iterable[str]:
    """What can stand for an argument, by its name in the help."""
    from rltrain.registry import agent_specs

    if option == "--trackers":
        return trackers
    if choices:
        return choices
    if metavar == "QUERY|NAME":
        return {"envs": _envs, "agents": agent_specs, "trackers": lambda: trackers}[verb]()
    if "ENV" in metavar.split("|"):
        return _envs()
    if metavar == "ALGO" or option == "--agent":
        return agent_specs()
    return [word for word in metavar.split("|") if re.fullmatch(r"[a-z][a-z0-9-]*", word)]


def _of_training(verb: str, before: Sequence[str], begun: str) -> Iterable[str]:
    """The words after ``rltrain train`` and its like, whose options are the settings and a few of their own."""
    from pydantic import BaseModel

    from rltrain.cli.typed import alternatives
    from rltrain.cli.typed_run import FILES
    from rltrain.config import EnvConfig, TrainConfig
    from rltrain.naming.habits import options_of
    from rltrain.registry import agent_config_class, agent_specs

    module = import_module(f"rltrain.cli.{verb}")
    if (platforms := getattr(module, "PLATFORMS", None)) is not None:  # which stand before the agent
        if not before and not begun.startswith("-"):
            return list(platforms)
        before = before[1:]
    flags: tuple[str, ...] = tuple(module.FLAGS)
    files = () if verb == "sweep" else FILES  # which lists those that it takes
    seeds = ("num_seeds",) if verb == "train" else ()
    own = [*files, *seeds, *flags, *getattr(module, "TEXTS", ()), *getattr(module, "NUMBERS", ())]
    agents = agent_specs()
    named = next((word for word in before if word in agents), None)
    if begun.startswith("-"):
        models: list[tuple[type[BaseModel], str]] = [(TrainConfig, ""), (EnvConfig, "env.")]
        models += [(agent_config_class(named), "agent.")] if named is not None else []
        found = [name for model, prefix in models for name in options_of(model, prefix)]
        hidden = ("algo", "env", "env.id", "agent")
        return [f"--{name.replace('_', '-')}" for name in (*own, *found, "debug", "help") if name not in hidden]
    option = next((word for word in reversed(before) if word.startswith("--")), "").removeprefix("--").replace("-", "_")
    if option == "trackers":
        return trackers
    if before and before[-1].startswith("--") and option not in flags:
        model = agent_config_class(named) if named is not None and option.startswith("agent.") else TrainConfig
        return alternatives(EnvConfig if option.startswith("env.") else model, option.rpartition(".")[2])
    free = [
        word
        for word, previous in zip(before, ["", *before], strict=False)
        if not word.startswith("-") and (not previous.startswith("--") or previous[2:].replace("-", "_") in flags)
    ]
    return [agents, _envs()][len(free)] if len(free) < 2 else ()


def _envs() -> list[str]:
    """The environments: ours, and those of Gymnasium's registry."""
    import gymnasium

    from rltrain.registry import env_specs

    return [*env_specs(), *gymnasium.registry]
