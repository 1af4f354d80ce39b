"""The house has floors: a module imports only what is below it, or in its own room.

The table is the documentation; the rest of the file reads every module's syntax tree and holds it to the
table. Imports inside functions count, and so do those for type checkers alone: a type is a dependency too.
"""

from __future__ import annotations

import ast
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

GROUND, PARTS, PEERS, RUNTIME, DOORS = range(5)

# The first floor that names a module is its floor, so a new module in a room that is there needs no entry. Every file
# at the top of rltrain/ that is not named here is one of the parts.
FLOORS = {
    # Where people come in: the command line, and `import rltrain`.
    DOORS: "rltrain  rltrain.__main__  rltrain.moved  rltrain.cli  rltrain.cli.*",
    # What a run is made of. Knows environments and agents by their registered names alone.
    RUNTIME: """
        rltrain.distributed*  rltrain.trackers*  rltrain.evaluation*  rltrain.runs*  rltrain.training*  rltrain.sb3*
        rltrain.reports*  rltrain.check*  rltrain.testing  rltrain.recording*  rltrain.search*  rltrain.export*
        rltrain.serving*  rltrain.preferences*
        rltrain.model_registry*  rltrain.retraining*  rltrain.cloud*  rltrain.cost*
    """,
    # The interfaces of environments and agents, on torch and gymnasium alone.
    GROUND: """
        rltrain.errors  rltrain.tree  rltrain.rng  rltrain.spaces  rltrain.env  rltrain.vec  rltrain.agent
        rltrain.compile  rltrain.compiling  rltrain.traced  rltrain.joined_vec  rltrain.env_checks*  rltrain.process*
    """,
    # What environments and agents are made of, and the names and settings they go by.
    PARTS: """
        rltrain.agents.parts*  rltrain.configs  rltrain.data*  rltrain.naming*  rltrain.storage*  rltrain.wrappers*
    """,
    # Environments, agents, adapters to other libraries, learned rewards. Each is a room: peers never import each other.
    PEERS: "rltrain.envs*  rltrain.agents*  rltrain.adapters*  rltrain.rewards*",
}

# Inside the runtime a room imports only the rooms before it.
RUNTIME_ORDER = (
    *(
        "distributed",
        "cost",
        "trackers",
        "evaluation",
        "runs",
        "reports",
        "training",
        "sb3",
        "recording",
        "preferences",
        "search",
        "export",
    ),
    *("serving", "model_registry", "retraining", "check", "cloud", "testing"),
)

# The ground stands on these, and the standard library.
GROUND_STANDS_ON = {"torch", "gymnasium", "numpy", "typing_extensions"}

STANDARD_LIBRARY = sys.stdlib_module_names

# Environments, agents and what they are made of leave these to the runtime and the doors.
RUNTIME_ONLY = ("torch.distributed", "torch.utils.tensorboard", "tensorboard", "rich", "tyro", "argparse", "curses")

# Who may import Stable-Baselines3.
SB3_ROOMS = ("rltrain.sb3*",)


def modules() -> dict[str, Path]:
    """Every module of the package by import name. The symlinks rltrain/envs and rltrain/agents are not followed."""
    found = {}
    for folder, package in (("rltrain", ""), ("envs", "rltrain."), ("agents", "rltrain."), ("configs", "rltrain.")):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if folder == "rltrain" and file.relative_to(ROOT).parts[1] in ("envs", "agents", "configs"):
                continue
            dotted = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            found[package + dotted.removesuffix(".__init__")] = file
    return found


MODULES = modules()


def floor_of(module: str) -> int | None:
    """The floor of a module, by the patterns of its room."""
    for floor, names in FLOORS.items():
        if any(fnmatchcase(module, pattern) for pattern in names.split()):
            return floor
    return PARTS if module in MODULES and module.count(".") == 1 else None


def room_of(module: str) -> str:
    """Modules of one room may import each other: a floor is a room, except that each peer has its own."""
    floor = floor_of(module)
    if floor == RUNTIME:
        return module.split(".")[1]
    if floor != PEERS:
        return f"floor {floor}"
    if module.startswith(("rltrain.adapters", "rltrain.rewards")):
        return ".".join(module.split(".")[:2])
    return ".".join(module.split(".")[:3])  # rltrain.envs.classic, rltrain.agents.ppo


def is_peer(module: str) -> bool:
    """Whether this is a concrete environment or agent, or the list of them."""
    return module.startswith(("rltrain.envs", "rltrain.agents")) and floor_of(module) == PEERS


def inside(module: str, names: tuple[str, ...]) -> bool:
    """Whether the module is one of these or in one of them."""
    return any(module == name or module.startswith(name + ".") for name in names)


def imports(tree: ast.AST, module: str, is_package: bool) -> list[tuple[int, str]]:
    """Line and absolute name of everything imported, wherever it stands."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            if ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
                found.append((node.lineno, str(node.args[0].value)))
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch.distributed."):
            found.append((node.lineno, ast.unparse(node)))
    return found


def strings(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and value of every string that is not a docstring."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]


def house_module(name: str) -> str:
    """The module behind an imported name: ``rltrain.vec.VecStep`` is in ``rltrain.vec``."""
    while name not in MODULES and "." in name:
        name = name.rpartition(".")[0]
    return name


def order_of(module: str) -> int:
    """The place of a runtime module's room in RUNTIME_ORDER."""
    return RUNTIME_ORDER.index(room_of(module))


def violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """What a module does that its floor forbids, one line each."""
    floor = floor_of(module)
    if floor is None:
        return [f"{module} is on no floor: add its room to FLOORS in tests/house/test_floors.py"]
    tree = ast.parse(source)
    wrong = []

    def complain(line: int, what: str) -> None:
        wrong.append(f"{module}:{line} {what}")

    for line, name in imports(tree, module, is_package):
        if inside(name, ("stable_baselines3",)) and not any(fnmatchcase(module, room) for room in SB3_ROOMS):
            complain(line, f"imports {name}: only rltrain/sb3 does")
        if floor <= PEERS and inside(name, RUNTIME_ONLY):
            complain(line, f"imports {name}: leave that to the runtime and the doors")
        if floor == GROUND and not inside(name, ("rltrain",)):
            top = name.partition(".")[0]
            if top not in GROUND_STANDS_ON and top not in STANDARD_LIBRARY:
                complain(line, f"imports {name}: the ground stands on {', '.join(sorted(GROUND_STANDS_ON))} alone")
        if name == "rltrain.__version__" or not inside(name, ("rltrain",)):
            continue
        target = house_module(name)
        target_floor = floor_of(target)
        if target_floor is None:
            complain(line, f"imports {target}, which is on no floor: add its room to FLOORS")
        elif target_floor > floor:
            complain(line, f"imports {target}, {target_floor - floor} floor(s) above it")
        elif target_floor == RUNTIME == floor and order_of(target) > order_of(module):
            complain(line, f"imports {target}, a room after its own in RUNTIME_ORDER")
        elif target_floor == PEERS == floor and room_of(target) != room_of(module):
            complain(line, f"imports its peer {target}: move what they share down to the parts")
        elif is_peer(target) and not is_peer(module):
            complain(line, f"imports {target}: ask the registry for it by its registered name")

    for line, text in strings(tree):
        allowed = is_peer(module) or module == "rltrain.moved" or text in ("rltrain.envs", "rltrain.agents")
        if not allowed and is_peer(text.partition(":")[0]):
            complain(line, f"names {text}: ask the registry for it by its registered name")

    for node in ast.walk(tree):
        if floor <= PEERS and isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "input"):
            complain(node.lineno, f"calls {node.func.id}: the terminal belongs to the doors")  # type: ignore[attr-defined]
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_a_module_keeps_to_its_floor(module: str) -> None:
    file = MODULES[module]
    wrong = violations(module, file.read_text(encoding="utf-8"), file.name == "__init__.py")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("rltrain.vec", "from rltrain.config import TrainConfig", "1 floor(s) above"),
        ("rltrain.vec", "def f():\n    import rltrain.training.trainer", "3 floor(s) above"),
        ("rltrain.vec", "if TYPE_CHECKING:\n    from rltrain.runs.policy import Policy", "3 floor(s) above"),
        ("rltrain.vec", "from .training import trainer", "3 floor(s) above"),
        ("rltrain.vec", "import pydantic", "the ground stands on"),
        ("rltrain.training.trainer", "from rltrain import train", "1 floor(s) above"),
        ("rltrain.training.trainer", "importlib.import_module('rltrain.cli.show')", "1 floor(s) above"),
        ("rltrain.runs.folder", "from rltrain.training.trainer import Trainer", "a room after its own"),
        ("rltrain.training.new_module", "import rltrain.check.report", "a room after its own"),
        ("rltrain.agents.parts.networks", "from rltrain.agents.ppo.agent import PPO", "1 floor(s) above"),
        ("rltrain.agents.ppo.agent", "from rltrain.agents.dqn.agent import DQN", "its peer"),
        ("rltrain.agents.ppo.agent", "from rltrain.envs.classic.cartpole import CartPole", "its peer"),
        ("rltrain.agents.ppo.agent", "from ..dqn import agent", "its peer"),
        ("rltrain.envs.classic.cartpole", "from rltrain.envs.grid.maze import Maze", "its peer"),
        ("rltrain.envs.classic.cartpole", "from rltrain.adapters import to_gymnasium", "its peer"),
        ("rltrain.adapters.to_gymnasium", "import rltrain.envs.classic.cartpole", "its peer"),
        ("rltrain.training.trainer", "from rltrain.agents.ppo.agent import PPO", "ask the registry"),
        ("rltrain.cli.show", "import rltrain.envs", "ask the registry"),
        ("rltrain.registry", "HOME = 'rltrain.agents.ppo.agent:PPO'", "ask the registry"),
        ("rltrain.training.trainer", "import stable_baselines3", "only rltrain/sb3"),
        ("rltrain.agents.ppo.agent", "import torch.distributed as dist", "leave that to the runtime"),
        ("rltrain.agents.ppo.agent", "import torch\ntorch.distributed.barrier()", "leave that to the runtime"),
        ("rltrain.envs.classic.cartpole", "from torch.utils.tensorboard import SummaryWriter", "leave that to"),
        ("rltrain.envs.classic.cartpole", "from rich.console import Console", "leave that to"),
        ("rltrain.config", "print('hello')", "the terminal"),
        ("rltrain.attic.chest", "", "is on no floor"),
    ],
)
def test_the_rules_catch(module: str, source: str, complaint: str) -> None:
    wrong = violations(module, source)
    assert len(wrong) == 1, wrong
    assert complaint in wrong[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rltrain.vec", "from rltrain.env import TensorEnv\nfrom gymnasium import spaces\nimport math"),
        ("rltrain.registry", "def f():\n    from rltrain.vec import TensorVecEnv\nGROUPS = ('rltrain.envs',)"),
        ("rltrain.agents.ppo.agent", "from rltrain.agents.parts import networks\nfrom .loss import ppo_loss"),
        ("rltrain.agents.ppo.agent", '"""See :class:`rltrain.envs.classic.cartpole.CartPole`."""'),
        ("rltrain.agents", "register_agent('ppo', 'rltrain.agents.ppo.agent:PPO')"),
        ("rltrain.sb3.vec_env", "import stable_baselines3\nfrom rltrain.adapters.to_gymnasium import make_single"),
        (
            "rltrain.training.trainer",
            "import torch.distributed\nfrom rltrain.agents.parts.returns import x",
        ),
        ("rltrain.training.new_module", "from rltrain.runs.folder import RunFolder"),
        ("rltrain.runs.folder", "from rltrain import __version__"),
        ("rltrain.cli.show", "import rltrain\nfrom rltrain import train\nfrom rich.console import Console"),
    ],
)
def test_the_rules_allow(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module: {
            target
            for _, name in imports(ast.parse(file.read_text(encoding="utf-8")), module, file.name == "__init__.py")
            if (target := house_module(name)) in MODULES and target not in (module, "rltrain")
        }
        for module, file in MODULES.items()
    }
    assert circle_in(graph) == []


def test_a_circle_is_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}}) == []


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Some circle of the graph, its first module repeated at the end; empty if there is none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph.get(module, ())):
            if found := visit(target, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


def test_every_floor_is_inhabited() -> None:
    assert {floor_of(module) for module in MODULES} >= {GROUND, PARTS, PEERS, DOORS}
