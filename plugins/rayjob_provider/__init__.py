"""Airflow provider for Ray jobs: run, wait for and stop jobs of a Ray cluster through its REST API, without the ray package.

Written because no maintained provider for Ray exists. It knows nothing of what the jobs do.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """Describe the provider to Airflow, which finds this through the `apache_airflow_provider` entry point."""
    return {
        "package-name": "rayjob-provider",
        "name": "Ray Jobs",
        "description": "Run jobs of a Ray cluster through the Ray Jobs REST API.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "Ray Jobs",
                "external-doc-url": "https://docs.ray.io/en/latest/cluster/running-applications/job-submission/",
            }
        ],
        "operators": [{"integration-name": "Ray Jobs", "python-modules": ["rayjob_provider.operators.ray_job"]}],
        "hooks": [{"integration-name": "Ray Jobs", "python-modules": ["rayjob_provider.hooks.ray_job"]}],
        "triggers": [{"integration-name": "Ray Jobs", "python-modules": ["rayjob_provider.triggers.ray_job"]}],
        "connection-types": [
            {
                "connection-type": "ray",
                "hook-class-name": "rayjob_provider.hooks.ray_job.RayJobHook",
                "hook-name": "Ray Jobs",
                "ui-field-behaviour": {
                    "hidden-fields": ["login"],
                    "relabeling": {"password": "Token", "schema": "http or https"},
                    "placeholders": {"host": "ray-head", "port": "8265", "schema": "http"},
                },
                "conn-fields": {
                    "dashboard_url": {
                        "label": "Dashboard address for browsers",
                        "schema": {"type": ["string", "null"]},
                    },
                    "ca_file": {"label": "CA certificates for https", "schema": {"type": ["string", "null"]}},
                },
            }
        ],
        "extra-links": ["rayjob_provider.links.ray_job.RayDashboardLink"],
    }
