"""Facts about cluster.yaml, checked by Ray's own validation without a cloud."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = (
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return YAML(typ="safe").load(REPOSITORY / "cluster.yaml")


@pytest.fixture(scope="module")
def prepared(cluster: dict[str, Any]) -> dict[str, Any]:
    """The cluster as `ray up` sees it: merged with the defaults of the provider, then validated."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(copy.deepcopy(cluster))
    validate_config(config)
    return config


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_ray_accepts_the_file_and_no_default_command_is_left(cluster, prepared):
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert prepared[name] == cluster[name]
    commands = " ".join(command for name in COMMANDS for command in prepared[name])
    assert "dev0" not in commands  # the provider's defaults install a nightly Ray
    assert "0.0.0.0" not in commands


def test_ray_refuses_the_file_with_an_unknown_key(cluster):
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(ValidationError, match="idle_timeout"):
        validate_config(prepare_config(copy.deepcopy(cluster) | {"idle_timeout": 5}))


def test_images_have_the_ray_of_constraints_and_a_python_of_the_project(cluster):
    images = [cluster["docker"][name] for name in ("head_image", "worker_image")]
    assert {re.match(r"rayproject/ray:([\d.]+)-py311-(cpu|gpu)$", image)[1] for image in images} == {pins()["ray"]}


def test_every_installation_is_constrained(prepared):
    installs = [command for name in COMMANDS for command in prepared[name] if "pip install" in command]
    assert installs
    for command in installs:
        assert "-c constraints.txt" in command
        named = set(re.split(r"pip install", command)[1].split()) - {"-c", "constraints.txt", "-e", "."}
        assert named <= pins().keys()


def test_the_dashboard_listens_on_loopback_alone(cluster):
    assert "--dashboard-host=127.0.0.1" in cluster["head_start_ray_commands"][-1]


def test_both_start_commands_ask_for_the_token_and_every_node_gets_it(cluster):
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert cluster[name][-1].startswith("export RAY_AUTH_MODE=token; ray start ")
        assert "--disable-usage-stats" in cluster[name][-1]
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    assert "chmod 600 ~/.ray/auth_token" in cluster["setup_commands"]
    assert any("RAY_AUTH_MODE=token" in command and ".bashrc" in command for command in cluster["setup_commands"])


def test_every_folder_that_a_command_enters_is_synced(cluster, prepared):
    entered = {match for name in COMMANDS for command in prepared[name] for match in re.findall(r"cd (\S+)", command)}
    assert entered == {"~/sweep"}
    assert cluster["file_mounts"]["~/sweep"] == "."
    excluded = " ".join(cluster["rsync_exclude"])
    assert all(f"**/{name}/**" in excluded for name in (".git", ".venv", "runs"))


def test_workers_are_spot_with_a_gpu_and_the_head_runs_no_chain(cluster):
    types = dict(cluster["available_node_types"])
    head = types.pop(cluster["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert worker["resources"]["GPU"] == 1
        assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
