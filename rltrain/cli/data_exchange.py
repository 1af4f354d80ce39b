"""``rltrain data import|export``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rltrain.cli.options import Parser, whole
from rltrain.cli.output import say
from rltrain.errors import ConfigError, did_you_mean, plain

FORMATS = ("minari", "csv", "parquet")


def import_(arguments: list[str]) -> int:
    """Makes a dataset and prints what is in it."""
    parser = Parser(
        "data import",
        "Make a dataset of one of Minari's, of a CSV or Parquet table, of an expert's .npz, or of what 'serve' logged.",
    )
    what = "table; .npz; a Minari dataset's folder, or its id; or the folder of 'rltrain serve --log-decisions'"
    parser.add_argument("source", metavar="FILE|FOLDER|ID", help=what)
    parser.add_argument("--out", metavar="DIR", help="folder to make; it must not be there")
    parser.add_argument("--env", metavar="ENV", help="of an .npz: the environment that it is of")
    parser.add_argument("--mapping", metavar="FILE.yaml", help="of a table: what its columns mean (docs/datasets.md)")
    parser.add_argument("--key-file", metavar="FILE", help="of a table: the key by which personal columns are hashed")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="INT", help="of the noise on personal columns [0]")
    parser.add_argument(
        "--name", metavar="TEXT", default="", help="the dataset's name [its own, or that of the folder]"
    )
    what = "of a log: leave out episodes in which rewards are missing, or count those as 0 [drop]"
    parser.add_argument("--missing-reward", metavar="drop|zero", help=what)
    parsed = parser.parse(arguments)
    if parsed.out is None:
        raise ConfigError("It is not said where the dataset is to be.", "Give --out DIR.")
    if parsed.missing_reward not in (None, "drop", "zero"):
        raise ConfigError(f"There is no '--missing-reward {parsed.missing_reward}'.", "Give drop or zero.")
    if any(Path(parsed.source).glob("decisions_*.jsonl")):
        return _of_log(parsed)
    if parsed.missing_reward is not None:
        raise ConfigError("'--missing-reward' is for the logs of 'rltrain serve'.", "Leave it out.")
    is_npz = Path(parsed.source).suffix.lower() == ".npz"
    if is_npz != (parsed.env is not None):
        what = "It is not said what environment the .npz is of." if is_npz else "'--env' is for an .npz."
        raise ConfigError(what, "Give --env ENV." if is_npz else "Leave it out.")
    is_table = Path(parsed.source).suffix.lower() in (".csv", ".parquet")
    if is_table and parsed.mapping is None:
        raise ConfigError("It is not said what the columns of the table mean.", "Give --mapping FILE.yaml.")
    if not is_table and (parsed.mapping or parsed.key_file):
        raise ConfigError("'--mapping' and '--key-file' are for tables.", "Leave them out.")

    from rltrain.cli.data import summary_lines

    if is_npz:
        from rltrain.naming.environments import typed_env
        from rltrain.registry import env_spec
        from rltrain.sb3.expert_data import dataset_of_expert

        env_id = env_spec(typed_env(parsed.env)).id
        dataset = dataset_of_expert(parsed.source, parsed.out, env_id, name=parsed.name)
    elif is_table:
        from rltrain.data.mapping import read_mapping
        from rltrain.data.personal import read_key
        from rltrain.data.tables import import_table

        mapping, key = read_mapping(parsed.mapping), read_key(parsed.key_file)
        dataset = import_table(parsed.source, parsed.out, mapping, key=key, name=parsed.name, seed=parsed.seed)
    else:
        from rltrain.data.minari import import_minari

        dataset = import_minari(parsed.source, parsed.out, name=parsed.name)
    say(plain("\n".join(summary_lines(dataset))))
    return 0


def _of_log(parsed: argparse.Namespace) -> int:
    """Makes a dataset of the decisions of a served policy."""
    if parsed.mapping or parsed.key_file:
        raise ConfigError("'--mapping' and '--key-file' are for tables.", "Leave them out for a log of decisions.")
    from rltrain.cli.data import summary_lines
    from rltrain.recording.decisions import import_decisions

    rewards: Any = parsed.missing_reward or "drop"  # one of the choices of the parser
    dataset, dropped = import_decisions(parsed.source, parsed.out, missing_reward=rewards, name=parsed.name)
    say(plain("\n".join(summary_lines(dataset))))
    if dropped:
        say(f"left out   {dropped:,} episodes in which rewards are missing; --missing-reward zero takes them")
    return 0


def export(arguments: list[str]) -> int:
    """Writes a dataset for others, and says where."""
    parser = Parser("data export", "Write a dataset, whose card must be complete, for Minari or as a table.")
    parser.add_argument("dir", metavar="DIR", help="folder with a dataset")
    parser.add_argument("--to", metavar="|".join(FORMATS), help="minari: a dataset of Minari's; csv, parquet: a table")
    parser.add_argument("--out", metavar="PLACE", help="the table; or the folder with Minari's datasets")
    parser.add_argument("--id", metavar="ID", help="in Minari, such as cartpole/expert-v0 [NAME-v0]")
    parser.add_argument("--data-format", metavar="hdf5|arrow|parquet", default="hdf5", help="in Minari [hdf5]")
    parsed = parser.parse(arguments)
    listed = f"Give --to {', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
    if parsed.to not in FORMATS:
        what = "It is not said what for." if parsed.to is None else f"There is no '--to {parsed.to}'."
        raise ConfigError(what, listed if parsed.to is None else did_you_mean(parsed.to, FORMATS, listed))
    if parsed.out is None:
        raise ConfigError("It is not said where to write.", "Give --out PLACE.")

    from rltrain.data.dataset import Dataset

    dataset = Dataset.open(parsed.dir, verify=True)
    if parsed.to == "minari":
        from rltrain.data.minari import export_minari

        dataset_id = parsed.id or f"{dataset.name}-v0"
        data = export_minari(dataset, parsed.out, dataset_id, data_format=parsed.data_format)
        say(plain(f"{data}: MINARI_DATASETS_PATH={parsed.out} lets minari.load_dataset('{dataset_id}') find it"))
        return 0
    if Path(parsed.out).suffix.lower() != f".{parsed.to}":
        raise ConfigError(f"'{parsed.out}' does not end in .{parsed.to}.", "Give it that ending.")
    from rltrain.data.tables import export_table

    say(plain(str(export_table(dataset, parsed.out))))
    return 0
