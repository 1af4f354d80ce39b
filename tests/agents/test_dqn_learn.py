"""Whole updates of DQN with each of Rainbow's options, against plain torch: targets, loss, steps, priorities, noise."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import Meeting
from echo import collect, make_agent, make_echo, resume_from_disk, train
from torch import Tensor, nn

from rltrain.agents.dqn.agent import DQN
from rltrain.agents.parts.q_network import QNetwork
from rltrain.agents.parts.replay import Batch
from rltrain.normalize import across_ranks

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "double": {"double_q": True},
    "dueling": {"dueling": True},
    "quantiles": {"distributional": True, "n_quantiles": 5},
    "priorities": {"prioritized_replay": True, "priority_alpha": 0.7},
    "dueling, double": {"dueling": True, "double_q": True},
    "dueling, priorities": {"dueling": True, "prioritized_replay": True, "priority_alpha": 0.5},
    "quantiles, priorities": {"distributional": True, "n_quantiles": 4, "prioritized_replay": True},
    "quantiles, double": {"distributional": True, "n_quantiles": 4, "double_q": True},
    "all but noise": {
        **dict.fromkeys(("double_q", "dueling", "distributional", "prioritized_replay"), True),
        "n_quantiles": 3,
        "n_steps": 3,
    },
}
LEARNING_RATE = 5e-3


def make(**changes: Any) -> DQN:
    defaults = {"learning_starts": 0, "target_update_interval": 96, "tau": 0.6, "learning_rate": LEARNING_RATE}
    return make_agent(kind=DQN, **{**defaults, "gradient_steps": 3, **changes})


def huber(x: Tensor) -> Tensor:
    return torch.where(x.abs() <= 1.0, 0.5 * x.square(), x.abs() - 0.5)


class ByHand:
    """DQN with autograd and torch's Adam, from the weights of an agent.

    Attributes:
        priorities: By place in the replay.
    """

    def __init__(self, agent: DQN) -> None:
        self.config = agent.config
        self.policy: QNetwork = copy.deepcopy(agent.policy)
        self.target: QNetwork = copy.deepcopy(agent.target)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=LEARNING_RATE, eps=1e-8)
        state = agent.optimizer.state_dict()
        for parameter, (mean, square) in zip(
            self.policy.parameters(), zip(*self._cut(agent, state), strict=True), strict=True
        ):
            self.optimizer.state[parameter] = {"step": state["step"].clone(), "exp_avg": mean, "exp_avg_sq": square}
        self.priorities: dict[int, float] = {}

    def _cut(self, agent: DQN, state: dict[str, Tensor]) -> list[list[Tensor]]:
        """The moments of each parameter."""
        each = [
            (start, parameter)
            for start, parameter in zip(agent.optimizer.starts, agent.policy.parameters(), strict=True)
        ]
        return [
            [state[name][start : start + p.numel()].view_as(p).clone() for start, p in each]
            for name in ("exp_avg", "exp_avg_sq")
        ]

    def targets(self, batch: Batch) -> Tensor:
        """(B, K): one number after another."""
        valued = self.target.quantiles(batch.next_obs).tolist()
        chooser = self.policy if self.config.double_q else self.target
        means = chooser.quantiles(batch.next_obs).mean(2).tolist()
        rows = zip(batch.reward.tolist(), batch.discount.tolist(), batch.terminated.tolist(), strict=True)
        targets = []
        for row, (reward, discount, terminated) in enumerate(rows):
            best = max(range(len(means[row])), key=lambda action, row=row: means[row][action])
            targets.append([reward + (0.0 if terminated else discount * value) for value in valued[row][best]])
        return torch.tensor(targets)

    def step(self, batch: Batch) -> None:
        """A gradient step on a minibatch."""
        target, rows = self.targets(batch), torch.arange(len(batch.action))
        said = self.policy.quantiles(batch.obs)[rows, batch.action]  # (B, K)
        if said.shape[1] == 1:
            difference = (said - target).squeeze(1)
            each, far = huber(difference), difference.abs()
        else:
            k = said.shape[1]
            each, far = torch.zeros(len(rows)), torch.zeros(len(rows))
            for i in range(k):
                for j in range(k):
                    u = target[:, j] - said[:, i]
                    level = (2 * i + 1) / (2 * k)
                    each = each + (level - (u < 0).float()).abs() * huber(u) / k
                    far = far + u.abs() / k**2
        self.optimizer.zero_grad()
        (batch.weight * each).mean().backward()
        nn.utils.clip_grad_norm_(self.policy.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        if self.config.prioritized_replay:
            power = (far.detach() + 1e-6).pow(self.config.priority_alpha).tolist()
            self.priorities |= dict(zip(batch.place.tolist(), power, strict=True))


def learn_by_hand(agent: DQN, book: ByHand, size: int) -> dict[str, Any]:
    """Lets the agent learn, and the other from the same draws, in minibatches of ``size``."""
    draw, drawn = agent.draw, []

    def noted(number: int) -> Batch:
        drawn.append(draw(number))
        return drawn[-1]

    agent.draw = noted  # type: ignore[method-assign]
    metrics = agent.learn()
    agent.draw = draw  # type: ignore[method-assign]
    for batch in drawn:
        for part in zip(*(x.split(size) for x in batch), strict=True):
            book.step(Batch(*part))
    return metrics


def experienced(name: str, seed: int = 0, **changes: Any) -> DQN:
    """An agent that has learned a little, and has a rollout to learn from. Its target network is not due to move."""
    agent = make(seed=seed, max_grad_norm=0.3, **OPTIONS[name], **changes)
    vec = make_echo(agent)
    obs = vec.reset(seed)
    for _ in range(4):
        obs = collect(agent, vec, obs)
        agent.learn()
    collect(agent, vec, obs)
    agent.steps = 97 + agent.horizon * agent.num_envs
    return agent


def assert_alike(agent: DQN, book: ByHand) -> None:
    """The same weights."""
    for ours, theirs in zip(agent.policy.parameters(), book.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def numbers(network: QNetwork) -> Tensor:
    """All weights, end to end."""
    return torch.cat([parameter.detach().flatten().clone() for parameter in network.parameters()])


@pytest.mark.parametrize("name", OPTIONS)
def test_an_update_is_that_of_plain_torch(name: str) -> None:
    agent = experienced(name)
    before, aside = numbers(agent.policy), numbers(agent.target)
    assert not torch.equal(before, aside)
    book = ByHand(agent)
    metrics = learn_by_hand(agent, book, agent.config.batch_size)
    assert metrics["train/grad_norm"] > 0.3
    assert_alike(agent, book)
    assert (numbers(agent.policy) - before).abs().max() > 1e-3
    assert torch.equal(numbers(agent.target), aside)
    if agent.config.prioritized_replay:
        priority = agent.replay.state_dict()["priority"]
        assert len(set(book.priorities.values())) > 10
        for place, wanted in book.priorities.items():
            assert priority[place].item() == pytest.approx(wanted, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", ["plain", "all but noise"])
def test_a_resumed_update_is_that_of_plain_torch(name: str, tmp_path: Path) -> None:
    """From disk, in an agent that began elsewhere; it draws what the other one would have drawn."""
    agent = experienced(name)
    book, resumed = ByHand(agent), experienced(name, seed=5)
    resume_from_disk(resumed, agent, tmp_path)
    learn_by_hand(resumed, book, resumed.config.batch_size)
    assert_alike(resumed, book)
    agent.learn()
    assert torch.equal(numbers(agent.policy), numbers(resumed.policy))


@pytest.mark.parametrize("name", ["plain", "dueling, double", "quantiles"])
def test_an_update_of_several_ranks_is_that_of_plain_torch(name: str) -> None:
    """Every minibatch is made of a part from the replay of each."""
    ranks, meeting = [experienced(name, seed, gradient_steps=2) for seed in range(2)], Meeting(2)
    ranks[1].load_state_dict(ranks[0].state_dict())
    ranks[1].optimizer.load_state_dict(copy.deepcopy(ranks[0].optimizer.state_dict()))
    for number, agent in enumerate(ranks):
        across_ranks(agent, meeting.reduce_of(number), 2)
    book = ByHand(ranks[0])
    drawn: list[list[Batch]] = [[], []]
    for agent, own in zip(ranks, drawn, strict=True):
        draw = agent.draw
        agent.draw = lambda size, draw=draw, own=own: own.append(draw(size)) or own[-1]  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda agent: agent.learn(), ranks))
    size = ranks[0].config.batch_size
    each = [
        [Batch(*part) for batch in own for part in zip(*(x.split(size) for x in batch), strict=True)] for own in drawn
    ]
    assert [len(parts) for parts in each] == [2, 2]
    for pair in zip(*each, strict=True):
        book.step(Batch(*(torch.cat(columns) for columns in zip(*pair, strict=True))))
    for agent in ranks:
        assert_alike(agent, book)


@pytest.mark.parametrize("others", [{}, {"dueling": True}, {"distributional": True, "n_quantiles": 4}], ids=str)
@pytest.mark.parametrize(("double_q", "worth"), [(False, 5.0), (True, 1.0)])
def test_learning_values_the_action_that_the_right_network_chooses(
    others: dict[str, Any], double_q: bool, worth: float
) -> None:
    """In what ``learn`` reports. The trained network prefers action 0, worth 1, and the target network action 1."""
    agent = make(gamma=1.0, target_update_interval=10**6, gradient_steps=1, double_q=double_q, **others)
    vec = make_echo(agent)
    obs = vec.reset(0)
    for _ in range(4):
        obs = collect(agent, vec, obs)
    with torch.no_grad():
        for network, values in ((agent.policy, [9.0, 0.0, 0.0]), (agent.target, [1.0, 5.0, 0.0])):
            for head in (network.action_head, network.value_head):
                if head is not None:
                    head.weight.zero_()
                    head.bias.zero_()
            network.action_head.bias.copy_(torch.tensor(values).repeat_interleave(network.n_quantiles))
            if network.value_head is not None:  # advantages are counted from their mean
                network.value_head.bias.fill_(sum(values) / 3)
    draw, drawn = agent.draw, []
    agent.draw = lambda size: drawn.append(draw(size)) or drawn[-1]  # type: ignore[method-assign]
    metrics = agent.learn()
    (batch,) = drawn
    wanted = batch.reward + worth * batch.discount * (~batch.terminated)
    assert 0 < int(batch.terminated.sum()) < len(wanted)
    assert metrics["train/q_target"].item() == pytest.approx(wanted.mean().item(), abs=1e-5)


# Noise


def set_noise(network: QNetwork, size: float) -> None:
    """The deviation of every weight."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("sigma"):
                parameter.fill_(size)


def noisy(policy: float, target: float, **changes: Any) -> tuple[DQN, Batch]:
    """An agent with this much noise in its networks, and a minibatch."""
    agent = make(noisy=True, target_update_interval=10**6, exploration_initial_eps=0.0, **changes)
    agent.config.exploration_final_eps = 0.0
    train(agent, make_echo(agent), 3)
    set_noise(agent.policy, policy)
    set_noise(agent.target, target)
    return agent, agent.draw(64)


every_kind = pytest.mark.parametrize(
    "others", [{}, {"dueling": True}, {"distributional": True, "n_quantiles": 3}], ids=str
)


@every_kind
@pytest.mark.parametrize(
    ("policy", "target", "double_q", "varies"),
    [
        (0.0, 0.0, True, False),
        (0.0, 1.0, False, True),
        (0.0, 1.0, True, True),
        (1.0, 0.0, False, False),
        (1.0, 0.0, True, True),  # in which action is chosen
    ],
)
def test_the_targets_vary_with_the_noise_of_the_networks_they_are_from(
    others: dict[str, Any], policy: float, target: float, double_q: bool, varies: bool
) -> None:
    agent, batch = noisy(policy, target, double_q=double_q, **others)
    first, second = (agent.prepare(batch)["target"] for _ in range(2))
    assert torch.equal(first, second) == (not varies)
    if not varies:
        without = copy.deepcopy(agent)
        set_noise(without.policy, 0.0)
        torch.testing.assert_close(ByHand(without).targets(batch), first)
    ended = batch.terminated
    assert torch.equal(first[ended], second[ended])


@every_kind
def test_the_loss_varies_with_the_noise_of_the_network(others: dict[str, Any]) -> None:
    agent, batch = noisy(0.0, 0.0, **others)
    prepared = agent.prepare(batch)

    def losses() -> list[float]:
        return [agent.update(prepared, 0.0).metrics["train/loss"].item() for _ in range(2)]

    assert len(set(losses())) == 1
    set_noise(agent.policy, 1.0)
    assert len(set(losses())) == 2


@every_kind
def test_deviations_are_learned(others: dict[str, Any]) -> None:
    agent, batch = noisy(0.1, 0.1, **others)
    before = {name: x.clone() for name, x in agent.policy.named_parameters() if name.endswith("sigma")}
    agent.update(agent.prepare(batch), 1e-2)
    assert before
    assert all(not torch.equal(x, before[name]) for name, x in agent.policy.named_parameters() if name in before)


def test_noise_is_explored_with_and_is_another_in_every_row() -> None:
    agent, _ = noisy(1.0, 0.0)
    obs = torch.full((agent.num_envs, 4), 0.5)
    actions = torch.cat([agent.sample_actions(obs) for _ in range(20)])
    assert len(actions.unique()) > 1
    assert any(len(agent.sample_actions(obs).unique()) > 1 for _ in range(5))
    assert len(agent.predict(obs).action.unique()) == 1
    assert len(agent.predict(obs.repeat(20, 1), deterministic=False).action.unique()) > 1
    set_noise(agent.policy, 0.0)
    assert torch.equal(agent.sample_actions(obs), agent.predict(obs).action)


def test_an_update_with_noise_that_is_none_is_that_of_plain_torch() -> None:
    """The means of the weights, after one step from deviations of 0."""
    agent, _ = noisy(0.0, 0.0, gradient_steps=1, max_grad_norm=1e6, dueling=True, double_q=True)
    book = ByHand(agent)
    learn_by_hand(agent, book, agent.config.batch_size)
    names = [name for name, _ in agent.policy.named_parameters()]
    pairs = zip(names, agent.policy.parameters(), book.policy.parameters(), strict=True)
    for name, ours, theirs in pairs:
        if not name.endswith("sigma"):
            torch.testing.assert_close(
                ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )
