"""What the chart accepts, what it refuses and with which words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[3] / "helm" / "nightforge"
OPEN_SECTIONS = {"airflow", "global"}


def test_lint_finds_nothing_in_the_default_values(run_helm, chart):
    result = run_helm("lint", "--strict", str(chart))
    assert result.returncode == 0, result.stdout + result.stderr


def test_lint_finds_nothing_in_the_minimal_values(run_helm, chart, minimal):
    result = run_helm("lint", "--strict", str(chart), *minimal)
    assert result.returncode == 0, result.stdout + result.stderr


def test_default_values_stop_with_one_message_that_names_every_missing_setting(template):
    result = template()
    assert result.returncode != 0
    for setting in ("config", "ray.auth.existingSecret", "endpoint.existingSecret", "aws.existingSecret"):
        assert f"- {setting} is empty" in result.stderr
    assert "airflow.secret lacks AIRFLOW_CONN_RAY_DEFAULT" in result.stderr
    assert "5 setting(s)" in result.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("ray.auth.existingSecret=", "ray.auth.existingSecret is empty"),
        ("endpoint.existingSecret=", "endpoint.existingSecret is empty"),
        ("aws.existingSecret=", "aws.existingSecret is empty"),
        ("worker.minReplicas=2", "worker.minReplicas 2 is above worker.maxReplicas 1"),
        ("configMapName=other", "airflow.volumes lacks the ConfigMap other"),
        ("airflow.env=null", "airflow.env lacks NIGHTFORGE_CONFIG"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_its_name(template, minimal, override, words):
    result = template(*minimal, "--set", override)
    assert result.returncode != 0
    assert words in result.stderr


def test_a_configuration_that_is_not_a_mapping_is_refused(template, minimal, tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [unclosed\n")
    result = template(*minimal, "--set-file", f"config={broken}")
    assert result.returncode != 0
    assert "config is not a YAML mapping" in result.stderr


def test_a_variable_of_the_configuration_must_reach_ray_and_airflow(template, minimal, tmp_path):
    config = tmp_path / "nightly.yaml"
    config.write_text(
        "store: {uri: '${BUCKET}/x'}\nserving: {host: '${NIGHTFORGE_SERVING_HOST:-0.0.0.0}'}  # ${COMMENT}\n"
    )
    arguments = [*minimal, "--set-file", f"config={config}"]
    result = template(*arguments)
    assert "config uses ${BUCKET}, which Ray pods lack" in result.stderr
    assert "config uses ${BUCKET}, which Airflow lacks" in result.stderr
    assert "2 setting(s)" in result.stderr
    both = "ray.extraEnv[0].name=BUCKET,ray.extraEnv[0].value=s3://b,airflow.env[1].name=BUCKET,airflow.env[1].value=s3://b"
    env = "airflow.env[0].name=NIGHTFORGE_CONFIG,airflow.env[0].value=/etc/nightforge/nightly.yaml"
    result = template(*arguments, "--set", f"{both},{env}")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "override",
    [
        "netwrokPolicy.enabled=false",
        "ray.auth.existingSecrt=x",
        "worker.maxReplica=2",
        "worker.resources.limit.cpu=1",
        "image.tag=latest",
        "podSecurity.runAsUser=0",
        "aws.credentials=plain",
    ],
)
def test_the_schema_refuses_a_misspelt_key_or_an_unsafe_value(template, minimal, override):
    result = template(*minimal, "--set", override)
    assert result.returncode != 0
    assert "values don't meet the specifications of the schema" in result.stderr


def _open_objects(schema: dict[str, Any], path: str) -> list[str]:
    """Return the paths of object schemas with `properties` that accept other keys too."""
    found = [path] if "properties" in schema and schema.get("additionalProperties") is not False else []
    for name, child in schema.get("properties", {}).items():
        found += _open_objects(child, f"{path}.{name}".lstrip("."))
    for name, child in schema.get("definitions", {}).items():
        found += _open_objects(child, f"definitions.{name}")
    return found


def test_the_schema_is_closed_but_for_the_values_of_other_charts():
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(_open_objects(schema, "")) <= OPEN_SECTIONS


def test_schema_and_default_values_name_the_same_settings():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}


def test_every_value_of_ours_has_a_comment_above_it():
    """A key whose own keys are explained needs none."""
    lines = (CHART / "values.yaml").read_text().split("\nairflow:\n")[0].splitlines()
    bare = []
    for above, line, below in zip(lines, lines[1:], [*lines[2:], ""], strict=False):
        key = re.match(r" *([A-Za-z]+):(.*)$", line)
        if key is None or key[1] in {"requests", "limits"} or "#" in above:
            continue
        if key[2] or "#" not in below:
            bare.append(line.strip())
    assert bare == []


def test_readme_has_a_row_for_every_setting_of_ours():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    readme = (CHART / "README.md").read_text()
    missing = [name for name in values if f"| `{name}" not in readme]
    assert missing == []
