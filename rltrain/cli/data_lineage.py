"""``rltrain data lineage``: where a dataset came from, and what was made of it."""

from __future__ import annotations

import json
from pathlib import Path

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.errors import plain


def lineage(arguments: list[str]) -> int:
    """Prints the versions that a dataset was made from, and the datasets, runs, checkpoints and exports made of it."""
    parser = Parser(
        "data lineage", "Say what a dataset was made from, and which runs, checkpoints and exports have it."
    )
    parser.add_argument("dir", metavar="DIR", help="folder with a dataset")
    what = "where to look for runs and exports, four folders deep [runs]"
    parser.add_argument("--runs", metavar="FOLDER", default="runs", help=what)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse(arguments)

    from rltrain.data.dataset import Dataset
    from rltrain.data.delete import made_from
    from rltrain.runs.lineage import descendants

    dataset = Dataset.open(parsed.dir)
    here = dataset.path.absolute()
    datasets = [path for path in made_from(dataset.checksum, here.parent) if path != here]
    found = list(descendants(dataset.checksum, dataset.ancestors, Path(parsed.runs)))
    if parsed.json:
        listed = [{"kind": each.kind, "path": str(each.path), "how": each.how} for each in found]
        about = {"path": str(dataset.path), "checksum": dataset.checksum, "ancestors": dataset.ancestors}
        say(json.dumps({**about, "datasets": [str(path) for path in datasets], "descendants": listed}))
        return 0
    say(plain(f"dataset    {dataset.path}, {dataset.checksum}"))
    for each in dataset.ancestors:
        say(f"made from  {each}")
    for path in datasets:
        say(plain(f"dataset    {path} was made from it"))
    for descendant in found:
        say(plain(f"{descendant.kind:<11}{descendant.path} {descendant.how}"))
    if not found:
        say(plain(f"run        none below '{parsed.runs}' was trained on it"))
    return 0
