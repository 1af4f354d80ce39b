"""``rltrain new-env``: writes a package with an environment in it."""

from __future__ import annotations

from rltrain.check.scaffold import names_of, new_env
from rltrain.cli.options import Parser
from rltrain.cli.output import say


def main(arguments: list[str]) -> int:
    """Writes a package and prints what to do next."""
    parser = Parser("new-env", "Write a package with an environment: code, registration, settings, tests, README.")
    parser.add_argument("name", metavar="NAME", help="lower-case words joined by '-' or '_', such as walk-home")
    parsed = parser.parse(arguments)

    package, title = names_of(parsed.name)
    for path in new_env(parsed.name):
        say(path)
    env_id = f"{package}/{title}-v0"
    say(
        f"\nNext, in '{parsed.name}':\n"
        f"  pip install -e '.[test]'\n"
        f"  pytest\n"
        f"  rltrain check {env_id}\n"
        f"  rltrain train ppo {env_id}"
    )
    return 0
