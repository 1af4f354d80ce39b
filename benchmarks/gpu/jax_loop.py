"""PPO on CartPole as one JAX program, for comparison: environments, rollouts and updates are compiled together.

Written from the papers, in the manner of PureJaxRL (Lu et al. 2022), which made this way of training known: the whole
run is nested ``jax.lax.scan``, and nothing comes back to Python before it is over. Networks, hyperparameters and number
format (float32 products) are those that ``rltrain`` is measured with. Like PureJaxRL it takes a truncated episode for a
terminated one, which saves the values of last observations that ``rltrain`` computes.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks import measures

if TYPE_CHECKING:
    from benchmarks.gpu.setup import Setup

GRAVITY, CART, POLE, HALF_LENGTH, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
TRACK, LEAN, LIMIT = 2.4, 12 * math.pi / 180, 500  # m, rad, steps
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-5


class Carts(NamedTuple):
    """N cart-poles."""

    motion: jax.Array  # (4, N) x, x_dot, theta, theta_dot
    length: jax.Array  # (N,) steps of the episode so far


class Adam(NamedTuple):
    """Adam's memory (Kingma and Ba 2015)."""

    mean: Any
    square: Any
    steps: jax.Array


def throughput(setup: Setup, num_envs: int) -> dict[str, Any]:
    """Steps per second of the compiled program, and the seconds of compiling it."""
    jax.config.update("jax_default_matmul_precision", "highest")  # float32, as torch's default
    iterations = 2 if setup.mini else max(8, 2**23 // (num_envs * setup.n_steps))
    train = make_train(num_envs, setup.n_steps, iterations)
    begin = time.perf_counter()
    program = jax.jit(train).lower(jax.random.PRNGKey(0)).compile()
    compiling, rates = time.perf_counter() - begin, []
    for seed in range(1 if setup.mini else 4):
        begin = time.perf_counter()
        lengths = jax.block_until_ready(program(jax.random.PRNGKey(seed)))
        rates.append(round(num_envs * setup.n_steps * iterations / (time.perf_counter() - begin)))
    return {
        "steps_per_s": round(statistics.median(rates[1:] or rates)),  # the first one sets libraries up
        "each": rates,
        "start_s": round(compiling, 1),
        "mean_length": round(float(lengths[-1]), 1),
        "on": str(jax.devices()[0]),
    }


def make_train(num_envs: int, n_steps: int, iterations: int) -> Any:
    """A function of a key that trains, and returns the mean length of finished episodes in each iteration."""
    iterate = make_iterate(num_envs, n_steps)
    return lambda key: lax.scan(iterate, begin(key, num_envs), None, iterations)[1]


def begin(key: jax.Array, num_envs: int, widths: Sequence[int] = (64, 64)) -> Any:
    """What an iteration starts from: weights, Adam's memory, carts and a key."""
    of_weights, of_starts, key = jax.random.split(key, 3)
    weights = make_weights(of_weights, widths)
    nothing = jax.tree.map(jnp.zeros_like, weights)
    return weights, Adam(nothing, nothing, jnp.zeros(())), start(of_starts, num_envs), key


def make_iterate(num_envs: int, n_steps: int, epochs: int = 4, minibatches: int = 4) -> Any:
    """A rollout and an update, as a body of ``jax.lax.scan``; it yields the mean length of finished episodes."""
    rows = num_envs * n_steps // minibatches

    def iterate(carry: Any, _: None) -> tuple[Any, jax.Array]:
        weights, memory, carts, key = carry
        of_rollout, of_epochs, key = jax.random.split(key, 3)
        carts, rollout = lax.scan(
            lambda carts, key: act(weights, carts, key), carts, jax.random.split(of_rollout, n_steps)
        )
        done = rollout.pop("done")
        length = rollout.pop("length")
        advantage = advantages(rollout["value"], values(weights, carts.motion.T), done)
        batch = {**rollout, "advantage": advantage, "target": advantage + rollout["value"]}
        batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

        def epoch(carry: Any, key: jax.Array) -> tuple[Any, None]:
            order = jax.random.permutation(key, minibatches * rows)
            parts = jax.tree.map(lambda x: x[order].reshape(minibatches, rows, *x.shape[1:]), batch)
            return lax.scan(update, carry, parts)[0], None

        weights, memory = lax.scan(epoch, (weights, memory), jax.random.split(of_epochs, epochs))[0]
        return (weights, memory, carts, key), (done * length).sum() / jnp.maximum(done.sum(), 1)

    return iterate


def start(key: jax.Array, num_envs: int) -> Carts:
    """Everything uniform in [-0.05, 0.05]."""
    return Carts(jax.random.uniform(key, (4, num_envs), minval=-0.05, maxval=0.05), jnp.zeros(num_envs))


def step(carts: Carts, action: jax.Array) -> tuple[Carts, jax.Array]:
    """An Euler step of Barto, Sutton and Anderson (1983), with Gymnasium's constants; and where episodes end."""
    _, x_dot, theta, theta_dot = carts.motion
    push = jnp.where(action == 1, FORCE, -FORCE)
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    common = (push + POLE * HALF_LENGTH * theta_dot**2 * sin) / (CART + POLE)
    turn = (GRAVITY * sin - cos * common) / (HALF_LENGTH * (4 / 3 - POLE * cos**2 / (CART + POLE)))
    speed_up = common - POLE * HALF_LENGTH * turn * cos / (CART + POLE)
    motion = carts.motion + TAU * jnp.stack((x_dot, speed_up, theta_dot, turn))
    length = carts.length + 1
    done = (jnp.abs(motion[0]) > TRACK) | (jnp.abs(motion[2]) > LEAN) | (length >= LIMIT)
    return Carts(motion, length), done


def act(weights: Any, carts: Carts, key: jax.Array) -> tuple[Carts, dict[str, jax.Array]]:
    """A step of all, new starts where episodes end, and what is learned from; the reward is always 1."""
    of_action, of_starts = jax.random.split(key)
    obs = carts.motion.T
    logits = network(weights["policy"], obs)
    action = jax.random.categorical(of_action, logits)
    after, done = step(carts, action)
    fresh = start(of_starts, len(action))
    following = Carts(jnp.where(done, fresh.motion, after.motion), jnp.where(done, fresh.length, after.length))
    return following, {
        "obs": obs,
        "action": action,
        "log_prob": log_prob(logits, action),
        "value": values(weights, obs),
        "done": done,
        "length": after.length,
    }


def advantages(value: jax.Array, last: jax.Array, done: jax.Array) -> jax.Array:
    """Generalized advantages (T, N), Schulman et al. (2016), equation 16."""
    gamma, trace = measures.PPO["gamma"], measures.PPO["gae_lambda"]

    def back(carry: Any, now: Any) -> tuple[Any, jax.Array]:
        advantage, following = carry
        value, done = now
        error = 1.0 + gamma * jnp.where(done, 0.0, following) - value
        advantage = error + gamma * trace * jnp.where(done, 0.0, advantage)
        return (advantage, value), advantage

    return lax.scan(back, (jnp.zeros_like(last), last), (value, done), reverse=True)[1]


def update(carry: Any, batch: Any) -> tuple[Any, None]:
    """One step of Adam along the clipped gradient of a minibatch."""
    weights, memory = carry
    gradient = jax.grad(loss)(weights, batch)
    norm = jnp.sqrt(sum((x**2).sum() for x in jax.tree.leaves(gradient)))
    scale = jnp.minimum(1.0, measures.PPO["max_grad_norm"] / (norm + 1e-6))
    gradient = jax.tree.map(lambda x: x * scale, gradient)
    steps = memory.steps + 1
    mean = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, memory.mean, gradient)
    square = jax.tree.map(lambda s, g: BETA_2 * s + (1 - BETA_2) * g**2, memory.square, gradient)
    rate, root = measures.PPO["learning_rate"] / (1 - BETA_1**steps), jnp.sqrt(1 - BETA_2**steps)
    weights = jax.tree.map(lambda w, m, s: w - rate * m / (jnp.sqrt(s) / root + EPSILON), weights, mean, square)
    return (weights, Adam(mean, square, steps)), None


def loss(weights: Any, batch: Any) -> jax.Array:
    """PPO's clipped surrogate (Schulman et al. 2017, equation 7) and half the squared error of the value."""
    advantage = batch["advantage"]
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = jnp.exp(log_prob(network(weights["policy"], batch["obs"]), batch["action"]) - batch["log_prob"])
    clip = measures.PPO["clip_range"]
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage).mean()
    return measures.PPO["vf_coef"] * ((values(weights, batch["obs"]) - batch["target"]) ** 2).mean() - gain


def make_weights(key: jax.Array, widths: Sequence[int]) -> dict[str, Any]:
    """Orthogonal layers: a policy with two logits, and a value."""
    made = {}
    for part, (outputs, gain) in {"policy": (2, 0.01), "value": (1, 1.0)}.items():
        sizes, layers = (4, *widths, outputs), []
        for i in range(len(sizes) - 1):
            key, one = jax.random.split(key)
            orthogonal = jax.nn.initializers.orthogonal(gain if i == len(widths) else math.sqrt(2))
            layers.append((orthogonal(one, sizes[i : i + 2]), jnp.zeros(sizes[i + 1])))
        made[part] = layers
    return made


def network(layers: Any, x: jax.Array) -> jax.Array:
    """A perceptron with tanh."""
    *hidden, (weight, bias) = layers
    for w, b in hidden:
        x = jnp.tanh(x @ w + b)
    return x @ weight + bias


def values(weights: Any, obs: jax.Array) -> jax.Array:
    """V (...,)."""
    return network(weights["value"], obs).squeeze(-1)


def log_prob(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Of actions (N,) with logits (N, 2)."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
