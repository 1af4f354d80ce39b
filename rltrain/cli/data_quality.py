"""``rltrain data check|split|delete``."""

from __future__ import annotations

import json
import sys
from itertools import chain
from pathlib import Path

from rltrain.cli.options import Parser, whole
from rltrain.cli.output import say
from rltrain.errors import ConfigError, plain


def check(arguments: list[str]) -> int:
    """Prints what was found in datasets; 2 if there are errors."""
    parser = Parser("data check", "Look for what is wrong with datasets; with several, also for leaks between them.")
    parser.add_argument("dirs", metavar="DIR", nargs="+", help="folders with datasets")
    what = "the lowest and the highest reward that may be [those of the dataset, if it has some]"
    parser.add_argument("--reward-range", metavar=("LOW", "HIGH"), nargs=2, type=float, help=what)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse(arguments)

    from rltrain.data.check import FINDINGS, check_dataset, check_splits
    from rltrain.data.dataset import Dataset

    bounds = parsed.reward_range and (parsed.reward_range[0], parsed.reward_range[1])
    datasets = [Dataset.open(path, verify=True) for path in parsed.dirs]
    found = {str(each.path): check_dataset(each, reward_range=bounds) for each in datasets}
    between = check_splits(datasets)
    everything = [*chain(*found.values()), *between]
    failed = any(each.is_error for each in everything)
    if parsed.json:
        listed = {path: [vars(each) for each in findings] for path, findings in found.items()}
        say(json.dumps({"ok": not failed, "datasets": listed, "between": [vars(each) for each in between]}))
        return 2 if failed else 0
    for path, findings in found.items():
        say(plain(f"{path}: {len(findings) or 'no'} finding{'' if len(findings) == 1 else 's'}"))
        for each in findings:
            say(plain(f"  {each}"))
    for each in between:
        say(plain(f"between them: {each}"))
    names = dict.fromkeys(each.name for each in everything)
    for name in names:
        say(f"  {name:<18}{FINDINGS[name]}")
    return 2 if failed else 0


def split(arguments: list[str]) -> int:
    """Writes the splits of a dataset and prints where they are."""
    parser = Parser("data split", "Divide a dataset by whole episodes; equal episodes stay together.")
    parser.add_argument("dir", metavar="DIR", help="folder with a dataset")
    parser.add_argument("shares", metavar="NAME=SHARE", nargs="*", help="[train=0.8 val=0.1 test=0.1]")
    parser.add_argument("--by", metavar="COLUMN", help="group column, such as the person: nobody is in two splits")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="INT", help="of the order [0]")
    parser.add_argument("--out", metavar="FOLDER", help="folder to make for the splits [DIR-splits]")
    parsed = parser.parse(arguments)
    shares = {}
    for text in parsed.shares or ("train=0.8", "val=0.1", "test=0.1"):
        name, equals, number = text.partition("=")
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not equals or share <= 0:
            raise ConfigError(f"'{text}' is no split.", "Write NAME=SHARE, such as train=0.8.")
        if name in shares:
            raise ConfigError(f"The split '{name}' is given twice.", "Give it once.")
        shares[name] = share

    from rltrain.data.dataset import Dataset
    from rltrain.data.split import split_dataset

    dataset = Dataset.open(parsed.dir, verify=True)
    out = Path(f"{parsed.dir.rstrip('/')}-splits" if parsed.out is None else parsed.out)
    for made in split_dataset(dataset, out, shares, by=parsed.by, seed=parsed.seed).values():
        values = f", {len(made.groups[parsed.by]):,} values of '{parsed.by}'" if parsed.by else ""
        say(plain(f"{made.path}: {len(made.episodes):,} episodes, {len(made):,} steps{values}"))
    return 0


def delete(arguments: list[str]) -> int:
    """Deletes episodes, and names the runs and datasets that have, or had, them."""
    what = (
        "Take the episodes of a person, or of another value of a column, out of a dataset. The old version is removed."
    )
    parser = Parser("data delete", what)
    parser.add_argument("dir", metavar="DIR", help="folder with a dataset")
    parser.add_argument("--where", metavar="COLUMN=VALUE", help="group column, or policy, and the value to delete")
    parser.add_argument("--key-file", metavar="FILE", help="the key of the import, if the column is hashed")
    parser.add_argument("--runs", metavar="FOLDER", default="runs", help="where to look for runs trained on it [runs]")
    parsed = parser.parse(arguments)
    column, equals, value = (parsed.where or "").partition("=")
    if not equals or not column:
        raise ConfigError("It is not said what to delete.", "Give --where COLUMN=VALUE, such as --where user=17.")

    from rltrain.data.dataset import Dataset
    from rltrain.data.delete import delete_episodes, made_from, recover
    from rltrain.data.personal import read_key
    from rltrain.runs.lineage import descendants

    key = read_key(parsed.key_file)
    recover(Path(parsed.dir))
    old = Dataset.open(parsed.dir)
    before, checksum, ancestors = len(old.episodes), old.checksum, old.ancestors
    new = delete_episodes(old, column, value, key=key)
    say(plain(f"{new.path}: {before - len(new.episodes):,} episodes deleted, {len(new.episodes):,} are left"))
    say(f"checksum   {checksum[:12]} is now {new.checksum}")
    found = list(descendants(checksum, ancestors, Path(parsed.runs)))
    for each in found:
        say(plain(f"{each.kind:<11}{each.path} {each.how}"))
    if not found:
        say(plain(f"run        none below '{parsed.runs}' was trained on it"))
    for path in made_from(checksum, new.path.absolute().parent):
        if path != new.path.absolute():
            print(plain(f"warning: '{path}' was made from it: delete there too."), file=sys.stderr)
    return 0
