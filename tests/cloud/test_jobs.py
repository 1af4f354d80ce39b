"""Job files: what is in them, and what is refused. The platforms' own libraries read them in test_validators.py."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from rltrain.cli import main
from rltrain.cli.typed_run import typed_run
from rltrain.cloud.job import from_hyperparameters
from rltrain.cloud.place import place_of

CARTPOLE = "rltrain/CartPole-v1"
RUN = ["ppo", CARTPOLE, "--num-envs", "64", "--agent.learning-rate", "lin_0.001", "--trackers", "csv", "--seed", "7"]
PLACES = {
    "sagemaker": ["--role", "arn:aws:iam::1:role/r", "--checkpoints", "s3://b/c", "--output", "s3://b/o"],
    "vertex": ["--output", "gs://b/o", "--checkpoints", "gs://b/c", "--region", "europe-west1"],
    "azureml": ["--resource-group", "g", "--workspace", "w"],
    "skypilot": ["--infra", "aws", "--checkpoints", "s3://b/c", "--output", "s3://b/o"],
}
MACHINE = ["--image", "registry/rltrain:1", "--instance", "big"]


def job_file(folder: Path, platform: str, *words: str, run: list[str] = RUN, machine: list[str] = MACHINE) -> Path:
    """Writes a job file."""
    out = folder / ("job.py" if platform == "sagemaker" else "job.yaml")
    assert main(["cloud", platform, *run, *machine, *PLACES[platform], *words, "--out", str(out)]) == 0
    return out


def sagemaker_calls(path: Path) -> dict[str, Any]:
    """The arguments of ModelTrainer in the program, calls in them as dicts."""

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Call):
            return {word.arg: value(word.value) for word in node.keywords}
        if isinstance(node, ast.List):
            return [value(each) for each in node.elts]
        return ast.literal_eval(node)

    tree = ast.parse(path.read_text())
    (call,) = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "ModelTrainer"
    ]
    return {str(word.arg): value(word.value) for word in call.keywords if word.arg != "sagemaker_session"}


def trained(words: list[str]) -> Any:
    """The configuration that arguments stand for, but for where it is written."""
    config = typed_run("train", words, flags=("no_progress",)).config
    return config.model_dump(exclude={"run_dir", "data"})


def test_sagemaker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = job_file(tmp_path, "sagemaker", "--spot", "--data", "s3://b/d", "--max-hours", "2")
    assert f"python {path}" in capsys.readouterr().out
    found = sagemaker_calls(path)
    assert found["compute"] == {"instance_type": "big", "instance_count": 1, "enable_managed_spot_training": True}
    assert found["stopping_condition"] == {"max_runtime_in_seconds": 7200, "max_wait_time_in_seconds": 14400}
    assert found["checkpoint_config"] == {"s3_uri": "s3://b/c", "local_path": "/opt/ml/checkpoints"}
    assert found["input_data_config"] == [{"channel_name": "training", "data_source": "s3://b/d"}]
    values = found["hyperparameters"]
    assert all(name.isidentifier() for name in values)  # they become variables of a shell
    assert values["agent__learning_rate"] == "lin_0.001"
    assert trained(from_hyperparameters(values)) == trained(RUN)


def test_sagemaker_over_several_machines(tmp_path: Path) -> None:
    words = ["--nodes", "2", "--gpus", "4", "--file-system", "fs-0123:/share/runs", "--subnets", "s-1,s-2"]
    found = sagemaker_calls(job_file(tmp_path, "sagemaker", *words, "--security-groups", "sg-1"))
    assert found["compute"]["instance_count"] == 2
    assert found["networking"] == {"subnets": ["s-1", "s-2"], "security_group_ids": ["sg-1"]}
    (runs,) = found["input_data_config"]
    assert runs["data_source"]["file_system_access_mode"] == "rw"
    assert found["environment"] == {"RLTRAIN_RUNS": "/opt/ml/input/data/runs", "RLTRAIN_RANKS": "4"}


def words_of(spec: list[str]) -> list[str]:
    return spec[spec.index("--") + 1 :]


def test_vertex(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = job_file(tmp_path, "vertex", "--gpus", "2", "--gpu", "NVIDIA_L4", "--spot", "--data", "gs://b/d")
    assert "gcloud ai custom-jobs create --region=europe-west1" in capsys.readouterr().out
    spec = yaml.safe_load(path.read_text())
    (pool,) = spec["workerPoolSpecs"]
    assert pool["machineSpec"] == {"machineType": "big", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 2}
    args = pool["containerSpec"]["args"]
    assert args[:5] == ["vertex", "--ranks=2", "--runs=/tmp/rltrain-runs", "--data=gs://b/d", "--mirror=gs://b/c"]
    assert trained(words_of(args)) == trained(RUN)
    assert spec["scheduling"] == {"timeout": "86400s", "restartJobOnWorkerRestart": True, "strategy": "SPOT"}


def test_vertex_over_several_machines(tmp_path: Path) -> None:
    words = ["--nodes", "3", "--ranks", "2", "--file-system", "10.0.0.2:/runs", "--network", "n"]
    run = [*RUN[:2], "--num-envs", "60"]
    path = job_file(tmp_path, "vertex", *words, run=run)
    spec = yaml.safe_load(path.read_text())
    assert "&id" not in path.read_text()
    assert [pool["replicaCount"] for pool in spec["workerPoolSpecs"]] == [1, 2]
    assert all(pool["nfsMounts"][0]["mountPoint"] == "runs" for pool in spec["workerPoolSpecs"])
    assert "--runs=/mnt/nfs/runs" in spec["workerPoolSpecs"][1]["containerSpec"]["args"]


def test_azureml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = job_file(tmp_path, "azureml", "--spot", "--data", "azureml://datastores/d/paths/x", "--nodes", "2")
    assert f"az ml job create --file {path} --resource-group g --workspace w" in capsys.readouterr().out
    spec = yaml.safe_load(path.read_text())
    assert spec["resources"] == {"instance_count": 2, "instance_type": "big"}
    assert spec["queue_settings"] == {"job_tier": "spot"}
    assert spec["distribution"] == {"type": "pytorch", "process_count_per_instance": 1}
    for name in ("outputs.runs", "outputs.model", "inputs.data"):
        assert f"${{{{{name}}}}}" in spec["command"]
    assert trained(words_of(shlex.split(spec["command"].replace("${{", "").replace("}}", "")))) == trained(RUN)
    cluster = job_file(tmp_path, "azureml", "--compute", "mine", machine=["--image", "i"])
    assert yaml.safe_load(cluster.read_text())["compute"] == "azureml:mine"


def test_skypilot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = job_file(tmp_path, "skypilot", "--gpus", "1", "--gpu", "A100", "--spot", "--data", "s3://b/d")
    assert f"sky jobs launch --name ppo-cartpole-v1 {path}" in capsys.readouterr().out
    task = yaml.safe_load(path.read_text())
    assert task["resources"]["accelerators"] == "A100:1"
    assert task["resources"]["use_spot"] is True
    assert set(task["file_mounts"]) == {"/runs", "/data", "/model"}
    words = shlex.split(task["run"])
    assert words[:2] == ["timeout", "86400"]
    assert {"--runs=/runs", "--data=/data", "--model=/model"} <= set(words)
    assert trained(words_of(words)) == trained(RUN)


def test_lambda_is_skypilot_without_spot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cloud", "lambda", *RUN, "--gpus", "1", "--gpu", "A100", "--out", str(tmp_path / "job.yaml")]
    assert main(words) == 0
    task = yaml.safe_load((tmp_path / "job.yaml").read_text())
    assert task["resources"]["infra"] == "lambda"
    assert task["setup"].startswith("pip install rltrain")
    assert main([*words, "--spot"]) == 2
    assert "Lambda has no spot machines" in capsys.readouterr().err


@pytest.mark.parametrize("platform", ["sagemaker", "vertex", "azureml", "skypilot"])
def test_starting_a_job_needs_the_program_of_the_platform(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """None of them is installed beside the tests."""
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "job"
    assert main(["cloud", platform, *RUN, *MACHINE, *PLACES[platform], "--submit", "--out", str(out)]) == 2
    assert "not installed" in (said := capsys.readouterr().err) or "There is no command" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["aws", *RUN], "There is no platform 'aws'."),
        ([], "Name a platform."),
        (["vertex", *RUN], "A job of vertex needs --image."),
        (["vertex", *RUN, *MACHINE, "--output", "s3://b"], "'s3://b' is no place for Vertex AI."),
        (["vertex", *RUN, *MACHINE, "--output", "gs://b", "--gpus", "1"], "needs --gpu."),
        (["vertex", *RUN, *MACHINE, "--output", "gs://b", "--nodes", "2"], "needs --file-system."),
        (["vertex", *RUN, *MACHINE, "--output", "gs://b", "--role", "r"], "--role is not for vertex."),
        (["sagemaker", *RUN, *MACHINE], "A job of sagemaker needs --role."),
        (["azureml", *RUN, "--image", "i"], "needs either --instance or --compute."),
        (["azureml", *RUN, "--image", "i", "--compute", "c", "--spot"], "is a property of the cluster"),
        (["azureml", *RUN, *MACHINE, "--env.kwargs.gravity", "${{x}}"], "which Azure ML replaces|cannot be"),
        (["skypilot", *RUN, "--gpus", "1"], "needs --gpu."),
        (["skypilot", *RUN, "--ranks", "3"], "num_envs=64 cannot be divided equally among 3 ranks"),
        (["skypilot", *RUN, "--nproc", "2"], "--nproc is for this machine"),
        (["skypilot", *RUN, "--num-seeds", "2"], "--num-seeds trains several"),
        (["skypilot", *RUN, "--nodes", "two"], "--nodes two is no number of nodes"),
        (["skypilot", *RUN, "--max-hours", "0"], "--max-hours 0 is no time of a job"),
        (["skypilot", *RUN, "--name", "My Job"], "'My Job' is no name of a job"),
        (["skypilot", *RUN, "--init-from", "runs/x"], "names a folder of this machine"),
        (["skypilot", *RUN, "--reward-model", "pairs"], "--reward-model names a folder of this machine"),
        (["skypilot", *RUN, "--out", "no/such/folder/job.yaml"], "cannot be written"),
        (["skypilot", "ppo", "CartPole-v9000"], "CartPole-v9000"),
    ],
)
def test_mistakes_are_told(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cloud", *words]) == 2
    said = capsys.readouterr().err
    assert any(part in said for part in why.split("|")), said
    assert not list(tmp_path.iterdir())


def test_what_is_odd_survives_the_way_into_a_job(tmp_path: Path) -> None:
    run = [
        *RUN,
        "--agent.policy-kwargs.net-arch",
        "[32, 32]",
        "--env.frame-stack",
        "2",
        "--log-info",
        "a b",
        "--health.kl",
        "1.5",
    ]
    for platform in ("vertex", "skypilot"):
        spec = yaml.safe_load(job_file(tmp_path, platform, run=run).read_text())
        words = (
            shlex.split(spec["run"]) if platform == "skypilot" else spec["workerPoolSpecs"][0]["containerSpec"]["args"]
        )
        assert trained(words_of(words)) == trained(run)


def test_hyperparameters_that_became_numbers_on_the_way_mean_the_same() -> None:
    values = {"algo": "ppo", "env": CARTPOLE, "num_envs": 64, "agent__gamma": 0.9, "compile": True, "cost__date": None}
    words = from_hyperparameters({**values, "sagemaker_program": "x", "log_info": '["a"]'})
    assert words[:2] == ["ppo", CARTPOLE]
    assert {"--num_envs=64", "--agent.gamma=0.9", "--compile=true", "--cost.date=none"} <= set(words)
    assert not any("sagemaker" in word for word in words)


def test_where_a_machine_is() -> None:
    sagemaker = {
        "TRAINING_JOB_NAME": "j-1",
        "SM_HPS": '{"algo": "ppo", "env": "e"}',
        "SM_HOSTS": '["algo-2", "algo-1"]',
        "SM_CURRENT_HOST": "algo-2",
        "RLTRAIN_RANKS": "4",
        "SM_CHANNEL_TRAINING": "/opt/ml/input/data/training",
    }
    place = place_of("sagemaker", {}, [], sagemaker)
    assert (place.job, place.nodes, place.node, place.first, place.port, place.ranks) == (
        "j-1",
        2,
        1,
        "algo-1",
        7777,
        4,
    )
    assert place.data == Path("/opt/ml/input/data/training")
    vertex = {
        "CLOUD_ML_JOB_ID": "1",
        "CLUSTER_SPEC": '{"cluster": {"workerpool0": ["a:2222"], "workerpool1": ["b:2222", "c:2222"]}, '
        '"task": {"type": "workerpool1", "index": 1}}',
        "AIP_MODEL_DIR": "gs://b/o/model",
    }
    place = place_of("vertex", {"ranks": "2"}, ["ppo", "e"], vertex)
    assert (place.nodes, place.node, place.first, place.port, place.ranks) == (3, 2, "a", 2222, 2)
    assert (place.model, place.mirror) == (Path("/gcs/b/o/model"), None)
    alone = {"CLOUD_ML_JOB_ID": "1", "AIP_CHECKPOINT_DIR": "gs://b/o/checkpoints"}
    place = place_of("vertex", {}, ["ppo", "e"], alone)
    assert (place.nodes, place.port, place.mirror) == (1, 0, Path("/gcs/b/o/checkpoints"))
    azure = {
        "AZUREML_RUN_ID": "r",
        "WORLD_SIZE": "2",
        "NODE_RANK": "1",
        "MASTER_ADDR": "10.0.0.4",
        "MASTER_PORT": "6105",
    }
    place = place_of("azureml", {"runs": "/mnt/runs", "model": "/mnt/model"}, ["ppo", "e"], azure)
    assert (place.nodes, place.node, place.first, place.port) == (2, 1, "10.0.0.4", 6105)
    sky = {"SKYPILOT_TASK_ID": "t", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NODE_RANK": "0"}
    place = place_of("skypilot", {"runs": "~/r"}, ["ppo", "e"], sky)
    assert (place.nodes, place.first, place.runs) == (2, "10.0.0.1", Path("~/r").expanduser())
