"""One side of ``benchmarks.ablation``: trains as requested. Each request and each answer is a line of JSON.

It is run as a file, with the checkout to be measured first on ``PYTHONPATH``: this one, or one of
:data:`benchmarks.ablation.BEFORE`, whose networks, losses and modules have other names.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.peers.ours import ENV, Loop

try:
    from rltrain.agents import chain, products  # of the older commit
except ImportError:
    from benchmarks import ablation_variants as others
    from rltrain.agents.dqn.agent import DQN
    from rltrain.agents.parts import manual_grad, networks
    from rltrain.agents.ppo.agent import PPO
    from rltrain.agents.pqn.agent import PQN

    chain = products = None


@contextmanager
def as_variant(variant: str) -> Iterator[None]:
    """Turns the agents of this checkout into a variant within a block."""
    changes: list[tuple[Any, str, Any]] = []
    if chain is not None:
        if "MKL" in variant:
            changes = [(module, "enough_rows", lambda *_, **__: math.inf) for module in (chain, products)]
    elif "oneDNN" in variant:
        forward, backward = others.links_by_onednn("tanh" in variant)
        changes = [(manual_grad.LinearLink, "forward", forward), (manual_grad.LinearLink, "backward", backward)]
    elif "autograd" in variant or "node" in variant:
        changes = [(PPO, "_loss", others.ppo_loss), (PQN, "_loss", others.td_loss), (DQN, "_loss", others.dqn_loss)]
        if "node" in variant:
            changes.append((manual_grad.Perceptron, "__call__", others.as_one_node))
        else:
            changes.append((manual_grad, "fit", lambda x, *_: False))
            if "fast tanh" not in variant:
                changes.append((networks.Tanh, "forward", lambda self, x: torch.tanh(x)))
    patches = [patch.object(*change) for change in changes]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def compiled_for(march: str | None) -> None:
    """Makes torch.compile generate code for another processor than this one."""
    if march is None:
        return
    from torch._inductor import config

    config.cpp.simdlen = 256
    compiling = torch.compile

    def compile_for(*args: Any, options: dict[str, Any] | None = None, **others: Any) -> Any:
        flags = (options or {}).get("cpp.march", "native").replace("native", march)
        return compiling(*args, options={**(options or {}), "cpp.march": flags}, **others)

    torch.compile = compile_for


class Side:
    """The loops of this checkout, made when they are first asked for."""

    def __init__(self) -> None:
        # Other load on the machine affects CPU time less, but with two threads CPU time counts twice.
        self.clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        self.loops: dict[tuple[str, str], Callable[[], int]] = {}

    def measure(
        self, point: str, settings: dict[str, Any], variant: str, seconds: float, *, wall: bool = False
    ) -> float:
        """Environment steps per second of collecting and learning, measured for at least ``seconds``."""
        with as_variant(variant):
            if (point, variant) not in self.loops:
                self.loops[point, variant] = self.start(settings, compiled="compiled" in variant)
            iterate = self.loops[point, variant]
            iterate()
            clock = time.perf_counter if wall else self.clock
            steps, begin = 0, clock()
            while (passed := clock() - begin) < seconds:
                steps += iterate()
        return steps / passed

    def start(self, settings: dict[str, Any], *, compiled: bool) -> Callable[[], int]:
        """Makes a loop that is past the steps that DQN collects before it learns."""
        if settings.get("num_seeds"):
            return several(settings)
        options = {name: settings[name] for name in ("num_envs", "agent")}
        loop = Loop(settings["algo"], ENV, options)
        if compiled:
            loop.agent.compile()
            loop.env.compile()
        for _ in range(2 + settings["agent"].get("learning_starts", 0) // loop.transitions):
            loop.iterate()
        return loop.iterate


def several(settings: dict[str, Any]) -> Callable[[], int]:
    """Agents of several seeds that act and learn as one."""
    from rltrain.joined_vec import JoinedVecEnv
    from rltrain.registry import agent_spec
    from rltrain.training.batch import stack

    options = {name: settings[name] for name in ("num_envs", "agent")}
    loops = [Loop(settings["algo"], ENV, {**options, "seed": seed}) for seed in range(settings["num_seeds"])]
    agent = stack(agent_spec(settings["algo"]), [loop.agent for loop in loops])
    env = JoinedVecEnv([loop.env for loop in loops])
    obs = torch.cat([loop.obs for loop in loops])

    def iterate() -> int:
        nonlocal obs
        for _ in range(loops[0].agent.horizon):
            out = agent.act(obs)
            step = env.step(out.action)
            agent.record(out, step)
            obs = step.obs
        env.split()
        agent.learn_each()
        return len(loops) * loops[0].transitions

    return iterate


def main() -> None:
    """Answers requests until there are no more."""
    begin = json.loads(sys.stdin.readline())
    torch.set_num_threads(begin["threads"])
    compiled_for(begin["march"])
    print(json.dumps({"capability": torch.backends.cpu.get_cpu_capability()}), flush=True)
    side = Side()
    for line in sys.stdin:
        print(json.dumps({"rate": side.measure(**json.loads(line))}), flush=True)


if __name__ == "__main__":
    main()
