"""The manifests, rendered by the real kubectl, are what KubeRay, Kubernetes, Serve and the oracle take; and closed."""

import copy
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from ray.serve.schema import ServeDeploySchema

from graphdrl.config import load_config
from graphdrl.distributed.placement import ORACLE_POOL, TRAINER_POOL, Placement, Wanted, place_on, seat
from serve import OracleSettings

ROOT = Path(__file__).parents[2]
OVERLAYS = ("cpu", "gpu", "pools")
KUBERNETES = kubernetes_validate.latest_version()
SCHEMA = json.loads((Path(__file__).parent / "kuberay.schema.json").read_text())

Manifest = dict[str, Any]


@cache
def _rendered(overlay: str) -> str:
    kubectl = Path(sys.executable).parent / "kubectl"
    folder = ROOT / "cluster" / "kuberay" / "overlays" / overlay
    done = subprocess.run([str(kubectl), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "no warnings"
    return done.stdout


def rendered(overlay: str) -> dict[str, Manifest]:
    """The overlay's manifests by kind."""
    return {one["kind"]: one for one in yaml.safe_load_all(_rendered(overlay))}


def cluster_specs(manifests: dict[str, Manifest]) -> list[Manifest]:
    """The specification of the cluster of each of KubeRay's kinds."""
    specs = {kind: manifests[kind]["spec"] for kind in ("RayCluster", "RayJob", "RayService")}
    return [specs["RayCluster"], specs["RayJob"]["rayClusterSpec"], specs["RayService"]["rayClusterConfig"]]


def pods(manifests: dict[str, Manifest]) -> list[Manifest]:
    groups = [
        group for spec in cluster_specs(manifests) for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    ]
    metadata = {"name": "pod"}
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, **group["template"]} for group in groups]


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> dict[str, Manifest]:
    return rendered(request.param)


def test_kuberays_kinds_have_known_fields_alone(manifests: dict[str, Manifest]) -> None:
    for kind in ("RayCluster", "RayJob", "RayService"):
        jsonschema.validate(manifests[kind], SCHEMA)


def misname(path: tuple[str | int, ...], wrong: str) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        *into, right = path
        node: Any = manifest
        for step in into:
            node = node[step]
        node[wrong] = node.pop(right)

    return change


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("RayCluster", misname(("spec", "gcsFaultToleranceOptions", "redisAddress"), "redisAdress")),
        ("RayCluster", misname(("spec", "gcsFaultToleranceOptions", "redisPassword", "valueFrom"), "value")),
        ("RayCluster", misname(("spec", "authOptions"), "authOption")),
        ("RayCluster", misname(("spec", "workerGroupSpecs", 0, "maxReplicas"), "maxReplica")),
        ("RayCluster", lambda manifest: manifest["spec"]["headGroupSpec"].update(serviceType="LoadBalancer")),
        ("RayCluster", lambda manifest: manifest["spec"]["authOptions"].update(mode="disabled")),
        ("RayJob", misname(("spec", "shutdownAfterJobFinishes"), "shutdownAfterJobFinish")),
        ("RayJob", misname(("spec", "rayClusterSpec"), "rayClusterConfig")),
        ("RayService", misname(("spec", "serveConfigV2"), "serveConfig")),
    ],
)
def test_a_slip_of_the_pen_is_noticed(kind: str, change: Callable[[Manifest], None]) -> None:
    manifest = copy.deepcopy(rendered("pools")[kind])
    change(manifest)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, SCHEMA)


def test_kubernetes_takes_the_pods_and_what_they_stand_on(manifests: dict[str, Manifest]) -> None:
    for manifest in (*pods(manifests), *(manifests[kind] for kind in ("Namespace", "PersistentVolumeClaim"))):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    kubernetes_validate.validate(manifests["NetworkPolicy"], KUBERNETES, strict=True)


def test_the_claim_is_the_volume_of_every_pod(manifests: dict[str, Manifest]) -> None:
    claim = manifests["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"], "workers on several nodes write to it"
    for pod in pods(manifests):
        (volume,) = pod["spec"]["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (container,) = pod["spec"]["containers"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/data"}]


def test_nobody_is_root_and_nobody_may_become_it(manifests: dict[str, Manifest]) -> None:
    for pod in pods(manifests):
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert not pod["spec"]["automountServiceAccountToken"]
        for container in pod["spec"]["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_only_the_namespace_and_the_operator_reach_the_pods(manifests: dict[str, Manifest]) -> None:
    policy = manifests["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {}, "it holds for all pods"
    (rule,) = policy["ingress"]
    own, operator = rule["from"]
    assert own == {"podSelector": {}}
    assert operator["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}


def test_the_clusters_run_the_ray_of_the_image(manifests: dict[str, Manifest]) -> None:
    (ray,) = (one for one in map(Requirement, requires("graphdrl") or []) if one.name == "ray")
    for spec in cluster_specs(manifests):
        assert f"=={spec['rayVersion']}" == str(ray.specifier)


def test_the_three_clusters_are_the_same(manifests: dict[str, Manifest]) -> None:
    first, *others = cluster_specs(manifests)
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    ("overlay", "tag", "gpus"), [("cpu", "cpu", None), ("gpu", "cuda", "1"), ("pools", "cuda", "1")]
)
def test_overlays_differ_in_image_and_gpus(overlay: str, tag: str, gpus: str | None) -> None:
    for spec in cluster_specs(rendered(overlay)):
        (head,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
        assert head["image"] == f"graphdrl:{tag}"
        assert "nvidia.com/gpu" not in head["resources"]["limits"], "the head needs none"
        for workers in spec["workerGroupSpecs"]:
            (worker,) = workers["template"]["spec"]["containers"]
            assert worker["image"] == f"graphdrl:{tag}"
            assert worker["resources"]["limits"].get("nvidia.com/gpu") == gpus
            assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]


def start_resources(group: Manifest) -> dict[str, float]:
    """The custom resources with which `ray start` is called, after the shell has read KubeRay's command line."""
    (argument,) = shlex.split(f"--resources={group['rayStartParams'].get('resources', '{}')}")
    return json.loads(argument.removeprefix("--resources="))


def test_a_training_that_is_split_has_room_in_the_pools() -> None:
    manifests = rendered("pools")
    nodes = []
    for group in cluster_specs(manifests)[0]["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        node = {"CPU": float(limits["cpu"]), "GPU": float(limits["nvidia.com/gpu"])} | start_resources(group)
        nodes += [node] * group["replicas"]
    words = manifests["RayJob"]["spec"]["entrypoint"].split("quickstart.yaml ")[1].split(";")[0].split()
    config = load_config(ROOT / "configs" / "quickstart.yaml", words)
    training, oracle = config.training, config.oracle
    wanted = Wanted(
        training.num_workers,
        training.cpus_per_worker,
        num_engines=oracle.num_replicas,
        cpus_per_engine=oracle.num_cpus,
        split=config.placement == "split",
    )
    assert place_on(nodes, wanted) == Placement(2, 1.0, 1.0, seat(TRAINER_POOL))
    (application,) = yaml.safe_load(manifests["RayService"]["spec"]["serveConfigV2"])["applications"]
    assert OracleSettings(**application["args"]).resources == seat(ORACLE_POOL)


def test_kubernetes_takes_the_redis_and_its_password_is_where_the_head_reads_it() -> None:
    manifests = rendered("pools")
    for kind in ("Service", "StatefulSet"):
        kubernetes_validate.validate(manifests[kind], KUBERNETES, strict=True)
    service, redis = manifests["Service"], manifests["StatefulSet"]
    (container,) = redis["spec"]["template"]["spec"]["containers"]
    (password,) = [one["valueFrom"] for one in container["env"] if one["name"] == "REDIS_PASSWORD"]
    assert container["args"][:2] == ["--requirepass", "$(REDIS_PASSWORD)"]
    assert service["spec"]["selector"].items() <= redis["spec"]["template"]["metadata"]["labels"].items()
    for spec in cluster_specs(manifests):
        options = spec["gcsFaultToleranceOptions"]
        assert options["redisAddress"] == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
        assert options["redisPassword"] == {"valueFrom": password}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own schema
def test_serve_and_the_oracle_take_their_configuration(manifests: dict[str, Manifest]) -> None:
    config = ServeDeploySchema(**yaml.safe_load(manifests["RayService"]["spec"]["serveConfigV2"]))
    (application,) = config.applications
    shipped = yaml.safe_load((ROOT / "serve" / "oracle.yaml").read_text())["applications"][0]
    same = ("name", "route_prefix", "import_path")
    assert {name: getattr(application, name) for name in same} == {name: shipped[name] for name in same}
    settings = OracleSettings(**application.args)
    assert (settings.http_host, settings.http_port) == (config.http_options.host, config.http_options.port)
    assert settings.score_store.is_relative_to("/data"), "scores outlive the pods"
    workers = manifests["RayService"]["spec"]["rayClusterConfig"]["workerGroupSpecs"][-1]
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert settings.num_gpus == int(limits.get("nvidia.com/gpu", 0))


def entrypoint_run(folder: Path) -> str:
    """What the job's entry point calls, after Ray's submission put it into one line, with `folder` for /data."""
    words = shlex.split(rendered("cpu")["RayJob"]["spec"]["entrypoint"])
    line = subprocess.list2cmdline(words).replace("/data", str(folder))
    (folder / "graphdrl").write_text('#!/bin/sh\necho "$@"\n')
    (folder / "graphdrl").chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(line, shell=True, env={"PATH": path}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_training_is_one_that_can_be(tmp_path: Path) -> None:
    command, path, *overrides = entrypoint_run(tmp_path).split()
    assert command == "train"
    config = load_config(ROOT / Path(path).relative_to("/opt/graphdrl"), overrides)
    assert config.folder == tmp_path / "runs" / "training"
    assert config.oracle.score_store.is_relative_to(tmp_path)
    (workers,) = cluster_specs(rendered("cpu"))[0]["workerGroupSpecs"]
    cpus = workers["replicas"] * int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert config.training.num_workers * config.training.cpus_per_worker + config.oracle.num_cpus <= cpus


def test_the_training_goes_on_where_it_was_when_it_is_begun_again(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "training"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    assert entrypoint_run(tmp_path) == f"train --resume {run}"
