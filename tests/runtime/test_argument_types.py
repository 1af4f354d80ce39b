"""What the command line says in a line, Python says too: an argument of a wrong type is one clear error."""

import inspect

import pytest

import rltrain
from rltrain.errors import RLTrainError

ENV = "rltrain/CartPole-v1"
THING = object()
NO_TEXT = (3, None, [], {}, THING, b"x")
NO_NAME = (*NO_TEXT, "", "  ")
NO_FLAG = ("yes", 3, None, [], THING)
NO_NUMBER = ("x", None, 2.5, True, [], THING)
NO_LIST = (3, "x", True, THING, [3])
NO_DICT = (3, "x", [], THING)
NO_ENV = (3, 2.5, [], {}, b"x", "", " ")
NO_DEVICE = (3, [], THING, "nothing", "")
NO_CALLBACKS = (3, None, "x", [3], THING)

WRONG = {
    "train": {"algo": NO_NAME, "env": (*NO_ENV, None), "progress": NO_FLAG, "callbacks": NO_CALLBACKS},
    "train_seeds": {
        "algo": NO_NAME,
        "env": (*NO_ENV, None),
        "num_seeds": NO_NUMBER,
        "progress": NO_FLAG,
        "callbacks": NO_CALLBACKS,
    },
    "resume": {
        "run": NO_NAME,
        "total_timesteps": ("x", 2.5, True, [], THING),
        "device": NO_DEVICE,
        "env": NO_ENV,
        "env_kwargs": NO_DICT,
        "classes": NO_LIST,
        "progress": NO_FLAG,
        "callbacks": NO_CALLBACKS,
        "trackers": (3, {}, THING, [3]),
        "nproc": ("x", 2.5, True, [], THING),
        "command": NO_LIST,
    },
    "resume_seeds": {
        "runs": (3, None, "x", [3], THING),
        "total_timesteps": ("x", 2.5, True, [], THING),
        "device": NO_DEVICE,
        "env": NO_ENV,
        "env_kwargs": NO_DICT,
        "classes": NO_LIST,
        "progress": NO_FLAG,
        "callbacks": NO_CALLBACKS,
        "trackers": (3, {}, THING, [3]),
    },
    "load": {
        "run": NO_NAME,
        "checkpoint": (None, 2.5, [], {}, THING, ""),
        "device": (*NO_DEVICE, None),
        "env": NO_ENV,
        "env_kwargs": NO_DICT,
        "classes": NO_LIST,
    },
    "evaluate": {
        "policy": (3, None, [], {}, THING, ""),
        "env": NO_ENV,
        "episodes": NO_NUMBER,
        "deterministic": NO_FLAG,
        "seed": NO_NUMBER,
        "device": (*NO_DEVICE, None),
        "limits": (3, "x", [], {}, THING),
    },
    "make_env": {"env": (*NO_ENV, None), "device": (*NO_DEVICE, None), "dtype": (3, "float32", float, THING)},
    "make_vec": {
        "env": (*NO_ENV, None),
        "num_envs": NO_NUMBER,
        "device": (*NO_DEVICE, None),
        "dtype": (3, "float32", float, THING),
        "max_episode_steps": ("x", 2.5, True, [], THING),
        "render": NO_FLAG,
    },
    "check_env": {"env": (*NO_ENV, None), "device": (*NO_DEVICE, None)},
    "check_vec_env": {"env": (3, None, "x", [], THING)},
    "register_env": {"id": NO_NAME, "entry_point": (3, None, [], {}, b"x")},
    "register_agent": {"name": NO_NAME, "entry_point": (3, None, [], {}, b"x"), "config": (3, None, [], {}, b"x")},
    "register_tracker": {
        "name": NO_NAME,
        "entry_point": (3, None, [], {}, b"x"),
        "description": NO_TEXT,
        "display": NO_FLAG,
    },
    "register_exporter": {"name": NO_NAME, "entry_point": NO_NAME, "description": NO_TEXT},
    "register_importer": {"ending": NO_NAME, "entry_point": NO_NAME},
    "register_verb": {"name": NO_NAME, "entry_point": NO_NAME, "help": NO_TEXT},
}
OF_POLICY = {
    "evaluate": {"episodes": NO_NUMBER, "deterministic": NO_FLAG, "seed": NO_NUMBER, "limits": (3, "x", [], THING)},
    "film": {
        "out": NO_NAME,
        "deterministic": NO_FLAG,
        "seed": NO_NUMBER,
        "episodes": NO_NUMBER,
        "max_steps": ("x", 2.5, True, [], THING, 0),
        "captions": NO_FLAG,
        "limits": (3, "x", [], THING),
    },
    "make_vec": {"num_envs": NO_NUMBER},
    "in_env": {"env": (*NO_ENV, None)},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    options = {"total_timesteps": 64, "num_envs": 2, "n_eval_episodes": 0, "trackers": [], "num_threads": 1}
    agent = {"n_steps": 16, "batch_size": 32, "n_epochs": 1}
    where = tmp_path_factory.mktemp("runs")
    return rltrain.train("ppo", ENV, progress=False, run_dir=where, agent=agent, **options).run_dir


def given(run):
    """Arguments that fit, by the names of parameters."""
    entry = {"entry_point": "nowhere:Nothing", "name": "of-no-type", "id": "of-no-type/X-v0", "ending": ".of-no-type"}
    return {
        **{"algo": "ppo", "env": ENV, "num_seeds": 2, "run": run, "runs": [run], "policy": run, "num_envs": 2},
        **{**entry, "config": "nowhere:Config", "out": "film.gif"},
    }


def required(function, values):
    parameters = inspect.signature(function).parameters
    return {name: values[name] for name, each in parameters.items() if name in values and each.default is each.empty}


def cases(table):
    return [(name, parameter) for name, parameters in table.items() for parameter in parameters]


def named(function):
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(function).parameters.items()
    return {name for name, each in parameters if each.kind not in variadic and name != "self"}


FUNCTIONS = [name for name in rltrain.__all__ if inspect.isfunction(getattr(rltrain, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_so_does_every_other_public_function_and_parameter(name, run):
    function = getattr(rltrain, name)
    others = named(function) - WRONG.get(name, {}).keys()
    for tried in [{other: THING} for other in others] if name in WRONG else [dict.fromkeys(others, THING)]:
        with pytest.raises(RLTrainError):
            function(**{**required(function, given(run)), **tried})


@pytest.mark.parametrize(("name", "parameter"), cases(WRONG))
def test_a_wrong_type_is_one_clear_error(name, parameter, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = getattr(rltrain, name)
    for value in WRONG[name][parameter]:
        with pytest.raises(RLTrainError) as caught:
            function(**{**required(function, given(run)), parameter: value})
        assert caught.value.cause
        assert caught.value.fix
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "parameter"), cases(OF_POLICY))
def test_the_methods_of_a_policy_say_so_too(name, parameter, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    method = getattr(rltrain.load(run), name)
    for value in OF_POLICY[name][parameter]:
        with pytest.raises(RLTrainError):
            method(**{**required(method, given(run)), parameter: value})
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_and_paths_fit(run):
    import numpy as np

    assert rltrain.load(str(run)).step == rltrain.load(run, checkpoint=np.int64(64)).step == 64
    result = rltrain.evaluate(run, episodes=np.int64(1), deterministic=np.bool_(True), seed=np.int32(3))
    assert len(result.returns) == 1
