"""``rltrain hub push|pull``: policies on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from rltrain.cli.actions import check_action, registry_of
from rltrain.cli.options import Parser, whole
from rltrain.cli.output import say
from rltrain.errors import ConfigError, plain

ACTIONS = {
    "push": "put a version into a repository: push NAME[@VERSION] OWNER/REPO",
    "pull": "bring it here as a run folder: pull OWNER/REPO --out DIR",
}


def main(arguments: list[str]) -> int:
    """Does what the first word says."""
    about = "Share policies on the Hugging Face Hub: " + "; ".join(f"{k}: {v}" for k, v in ACTIONS.items()) + "."
    parser = Parser("hub", about)
    parser.add_argument("action", metavar="|".join(ACTIONS))
    parser.add_argument("words", nargs="*", metavar="WORD", help="what the action takes")
    parser.add_argument("--registry", metavar="FOLDER", help="push: [$RLTRAIN_MODELS, or models]")
    what = "push: file with the key that the version must be signed with [$RLTRAIN_MODELS_KEY]"
    parser.add_argument("--key-file", metavar="FILE", help=what)
    parser.add_argument("--card", metavar="FILE.md", help="push: [the card that it was registered with]")
    parser.add_argument("--private", action="store_true", help="push: make a new repository a private one")
    parser.add_argument("--out", metavar="DIR", help="pull: the folder to make")
    parser.add_argument("--revision", metavar="TEXT", help="pull: branch, tag or commit [main]")
    parser.add_argument("--max-bytes", type=whole(1), metavar="INT", help="pull: of all files [4294967296]")
    parsed = parser.parse(arguments)
    taken = {"push": ("registry", "key_file", "card", "private"), "pull": ("out", "revision", "max_bytes")}
    check_action("hub", parsed, ACTIONS, taken, {"push": (2, 2)})
    if parsed.action == "pull":
        if parsed.out is None:
            raise ConfigError("It is not said where the policy is to be.", "Give --out DIR.")
        from rltrain.model_registry.hub import LIMIT, pull

        facts = pull(parsed.words[0], Path(parsed.out), revision=parsed.revision, limit=parsed.max_bytes or LIMIT)
        lineage = facts["lineage"] if isinstance(facts.get("lineage"), dict) else {}
        what = f"{lineage.get('algo')} in {lineage.get('env')}, version {facts.get('version')} of {facts.get('name')}"
        say(plain(f"{parsed.out}: {what}, commit {facts['hub_commit']}"))
        return 0

    from rltrain.model_registry.card import card_text
    from rltrain.model_registry.contents import card_in
    from rltrain.model_registry.hub import push
    from rltrain.model_registry.sbom import make_sbom
    from rltrain.model_registry.store import CHAMPION, Registry

    name, _, version = parsed.words[0].partition("@")
    place, key = registry_of(parsed)
    registry = Registry(place, name, key)
    number = registry.find(version or CHAMPION)
    folder, facts = registry.open(number), registry.facts(number)
    card = card_in(folder) if parsed.card is None else card_text(Path(parsed.card))
    sbom = make_sbom(name, str(number), facts["files"], facts["lineage"])
    say(plain(push(folder, facts, card or "", sbom, parsed.words[1], private=parsed.private)))
    return 0
