"""What the rendered manifests say, and that Kubernetes and KubeRay would accept them."""

from __future__ import annotations

import copy
import gzip
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from voc.config.file import load_config

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "configs" / "nightly.yaml"
SHARED = Path(os.environ.get("NIGHTFORGE_SHARED", ROOT.parent / "shared"))
RAYCLUSTER_CRD = SHARED / "data" / "kuberay-crds" / "ray.io_rayclusters.yaml.gz"
KUBERNETES_VERSIONS = ("1.27", "1.31", "1.37")  # the chart's oldest, a middle one, the newest that can be checked
VARIANTS = {
    "minimal": [],
    "no autoscaling": ["--set", "ray.autoscaling.enabled=false"],
    "ambient credentials": ["--set", "aws.credentials=ambient,aws.region=eu-central-1", "--set",
                            r"serviceAccount.annotations.eks\.amazonaws\.com/role-arn=arn:aws:iam::1:role/nightforge"],
    "everything optional": ["--set", "worker.runtimeClassName=nvidia,image.pullSecrets[0]=registry,head.nodeSelector.pool=cpu,"
                            "networkPolicy.airflow.namespace=airflow,networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus,"
                            "ray.extraEnv[1].name=A,ray.extraEnv[1].value=b,ray.extraEnv[0].name=NIGHTFORGE_STORE,ray.extraEnv[0].value=file:///x,aws.endpointUrl=http://s3:9000,head.annotations.a=b"],
    "Airflow elsewhere": ["--set", "airflow.enabled=false"],
}  # fmt: skip


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def manifests(request, render) -> list[dict[str, Any]]:
    return render(*request.param)


@pytest.fixture(scope="module")
def minimal_manifests(render) -> list[dict[str, Any]]:
    return render()


def _only(manifests: list[dict[str, Any]], kind: str, suffix: str = "") -> dict[str, Any]:
    (found,) = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"].endswith(suffix)]
    return found


def _pod_templates(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    spec = _only(manifests, "RayCluster")["spec"]
    return {"head": spec["headGroupSpec"]["template"], "worker": spec["workerGroupSpecs"][0]["template"]}


def _env(container: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item for item in container["env"]}


def _close(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of an OpenAPI schema in which an unknown field is an error."""
    closed = copy.deepcopy(schema)
    pending = [closed]
    while pending:
        node = pending.pop()
        if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
            node.setdefault("additionalProperties", False)
        children = [*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")]
        pending += [child for child in children if isinstance(child, dict)]
    return closed


@pytest.fixture(scope="module")
def raycluster_validator() -> jsonschema.Draft7Validator:
    if not RAYCLUSTER_CRD.exists():
        pytest.skip(f"no KubeRay CRD at {RAYCLUSTER_CRD}: set NIGHTFORGE_SHARED to a folder with data/kuberay-crds")
    with gzip.open(RAYCLUSTER_CRD) as file:
        crd = yaml.load(file, Loader=yaml.CSafeLoader)
    (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    return jsonschema.Draft7Validator(_close(version["schema"]["openAPIV3Schema"]))


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_accepts_every_manifest_of_its_own_kinds(manifests, version):
    builtin = [m for m in manifests if m["kind"] != "RayCluster"]
    assert {m["kind"] for m in builtin} >= {"ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"}
    for manifest in builtin:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_accepts_the_pods_inside_the_raycluster(manifests, version):
    for name, template in _pod_templates(manifests).items():
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **template["metadata"]},
            "spec": template["spec"],
        }
        kubernetes_validate.validate(pod, version, strict=True)


def test_kuberay_accepts_the_raycluster(manifests, raycluster_validator):
    errors = [f"{e.json_path}: {e.message}" for e in raycluster_validator.iter_errors(_only(manifests, "RayCluster"))]
    assert errors == []


def test_the_kuberay_check_would_find_a_misspelt_field(minimal_manifests, raycluster_validator):
    cluster = copy.deepcopy(_only(minimal_manifests, "RayCluster"))
    cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]["tolerationz"] = []
    cluster["spec"]["autoscalerOptions"]["idleTimeoutS"] = 1
    assert len(list(raycluster_validator.iter_errors(cluster))) == 2


def test_pods_meet_the_restricted_pod_security_standard(manifests):
    for template in _pod_templates(manifests).values():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all(set(volume) - {"name"} <= {"configMap", "emptyDir"} for volume in spec["volumes"])
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests", "limits"} == set(container["resources"])


def test_every_secret_is_a_reference(manifests):
    for template in _pod_templates(manifests).values():
        env = _env(template["spec"]["containers"][0])
        secret_names = {name for name in env if any(word in name for word in ("TOKEN", "KEY", "SECRET", "PASSWORD"))}
        assert {"RAY_AUTH_TOKEN", "NIGHTFORGE_ENDPOINT_KEY"} <= secret_names
        assert all(set(env[name]["valueFrom"]) == {"secretKeyRef"} for name in secret_names)
    assert "Secret" not in {m["kind"] for m in manifests}


def test_head_worker_and_autoscaler_ask_for_the_token(minimal_manifests):
    spec = _only(minimal_manifests, "RayCluster")["spec"]
    containers = [t["spec"]["containers"][0] for t in _pod_templates(minimal_manifests).values()]
    for container in [*containers, spec["autoscalerOptions"]]:
        env = _env(container)
        assert env["RAY_AUTH_MODE"]["value"] == "token"
        assert env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {
            "name": "nightforge-ray-auth",
            "key": "auth_token",
        }


def test_ambient_credentials_leave_no_access_key_in_the_pods(render):
    manifests = render("--set", "aws.credentials=ambient")
    for template in _pod_templates(manifests).values():
        assert not [name for name in _env(template["spec"]["containers"][0]) if name.startswith("AWS_")]


def test_ray_does_not_give_up_before_the_configuration_does(minimal_manifests):
    config = load_config(CONFIG, environ={"NIGHTFORGE_STORE": "s3://bucket"})
    for template in _pod_templates(minimal_manifests).values():
        env = _env(template["spec"]["containers"][0])
        assert int(env["RAY_JOB_START_TIMEOUT_SECONDS"]["value"]) >= config.serving.queue_timeout_s
        assert int(env["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"]["value"]) >= config.training.start_timeout_s


def test_the_configuration_reaches_ray_and_airflow_unchanged(minimal_manifests):
    config = _only(minimal_manifests, "ConfigMap", "nightforge-config")
    assert config["data"]["nightly.yaml"] == CONFIG.read_text()
    for template in _pod_templates(minimal_manifests).values():
        container = template["spec"]["containers"][0]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        (volume,) = [v for v in template["spec"]["volumes"] if "configMap" in v]
        assert volume["configMap"]["name"] == config["metadata"]["name"]
        assert _env(container)["NIGHTFORGE_CONFIG"]["value"] == f"{mounts[volume['name']]}/nightly.yaml"
    airflow = yaml.safe_load(_only(minimal_manifests, "ConfigMap", "airflow-values")["data"]["values"])
    assert {"name": "NIGHTFORGE_CONFIG", "value": "/etc/nightforge/nightly.yaml"} in airflow["env"]
    assert airflow["volumes"][0]["configMap"]["name"] == config["metadata"]["name"]
    assert airflow["volumeMounts"][0]["mountPath"] == "/etc/nightforge"


def test_airflow_gets_the_connection_to_ray_by_reference(minimal_manifests):
    airflow = yaml.safe_load(_only(minimal_manifests, "ConfigMap", "airflow-values")["data"]["values"])
    wanted = {"envName": "AIRFLOW_CONN_RAY_DEFAULT", "secretName": "nightforge-airflow", "secretKey": "connection"}
    assert wanted in airflow["secret"]


def _secret_keys(node: Any) -> set[tuple[str, str]]:
    """Return name and key of every Secret that is referred to below a node."""
    if isinstance(node, list):
        return {found for child in node for found in _secret_keys(child)}
    if not isinstance(node, dict):
        return set()
    if "secretKeyRef" in node:
        return {(node["secretKeyRef"]["name"], node["secretKeyRef"]["key"])}
    if "secretName" in node:
        return {(node["secretName"], node["secretKey"])}
    return _secret_keys(list(node.values()))


def test_the_readme_creates_every_secret_that_the_minimal_values_refer_to(minimal_manifests):
    airflow = yaml.safe_load(_only(minimal_manifests, "ConfigMap", "airflow-values")["data"]["values"])
    readme = (ROOT / "helm" / "nightforge" / "README.md").read_text()
    created = set()
    for name, rest in re.findall(r"kubectl create secret generic (\S+)(.*)", readme):
        created |= {(name, key) for key in re.findall(r"--from-literal=(\w+)=", rest)}
    assert created == _secret_keys([minimal_manifests, airflow["secret"]])


def test_the_connection_in_the_readme_points_at_the_head_service(template, minimal):
    readme = (ROOT / "helm" / "nightforge" / "README.md").read_text()
    (host,) = re.findall(r'"host": "([^"]+)"', readme)
    (release,) = re.findall(r"helm upgrade --install (\S+) ", readme)
    rendered = template(*minimal, "--name-template", release)
    assert f"ray.io/cluster: {host.removesuffix('-head-svc')}\n" in rendered.stdout


def test_airflow_runs_the_version_of_its_image(minimal_manifests):
    airflow = yaml.safe_load(_only(minimal_manifests, "ConfigMap", "airflow-values")["data"]["values"])
    base = (ROOT / "docker" / "airflow" / "Dockerfile").read_text()
    assert f"FROM apache/airflow:slim-{airflow['airflowVersion']}-python" in base


def test_ray_runs_the_version_of_its_image(minimal_manifests):
    version = _only(minimal_manifests, "RayCluster")["spec"]["rayVersion"]
    assert f"\nray=={version}\n" in (ROOT / "docker" / "ray" / "requirements-cuda.txt").read_text()


def test_nothing_reaches_ray_unless_a_policy_allows_it(minimal_manifests):
    cluster = {"ray.io/cluster": _only(minimal_manifests, "RayCluster")["metadata"]["name"]}
    deny = _only(minimal_manifests, "NetworkPolicy", "-deny-ingress")["spec"]
    assert deny == {"podSelector": {"matchLabels": cluster}, "policyTypes": ["Ingress"]}


def test_only_airflow_reaches_the_jobs_api_and_only_that_port(minimal_manifests):
    policies = [m["spec"] for m in minimal_manifests if m["kind"] == "NetworkPolicy" and "ingress" in m["spec"]]
    cluster = {"matchLabels": {"ray.io/cluster": "demo-nightforge"}}
    from_outside = [p for p in policies if any({"podSelector": cluster} not in rule["from"] for rule in p["ingress"])]
    (jobs_api,) = from_outside
    (rule,) = jobs_api["ingress"]
    assert jobs_api["podSelector"]["matchLabels"]["ray.io/node-type"] == "head"
    assert rule["ports"] == [{"protocol": "TCP", "port": 8265}]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"] == {"tier": "airflow", "release": "demo"}
    assert peer["podSelector"]["matchExpressions"][0]["values"] == ["scheduler", "triggerer", "worker"]


def test_airflow_in_another_namespace_is_let_in_by_name(render):
    manifests = render("--set", "airflow.enabled=false,networkPolicy.airflow.namespace=workflows")
    (peer,) = _only(manifests, "NetworkPolicy", "-jobs-api")["spec"]["ingress"][0]["from"]
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "workflows"}}
    assert peer["podSelector"]["matchLabels"] == {"tier": "airflow"}


def test_the_chart_grants_no_right_on_the_kubernetes_api(manifests):
    assert not {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} & {m["kind"] for m in manifests}
    assert _only(manifests, "ServiceAccount")["automountServiceAccountToken"] is False
    assert _pod_templates(manifests)["worker"]["spec"]["automountServiceAccountToken"] is False


def test_the_head_has_a_kubernetes_token_only_for_the_autoscaler(render):
    for enabled in (True, False):
        manifests = render("--set", f"ray.autoscaling.enabled={str(enabled).lower()}")
        assert _pod_templates(manifests)["head"]["spec"]["automountServiceAccountToken"] is enabled


def test_an_upgrade_of_the_chart_alone_does_not_change_the_pods(minimal_manifests):
    for template in _pod_templates(minimal_manifests).values():
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(template["metadata"]["labels"])
