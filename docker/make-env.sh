#!/usr/bin/env bash
# Makes one of the two pinned environments, the laptop twins of the images, and prints its interpreter.
#   docker/make-env.sh airflow|ray
# An environment is named after the hash of everything that goes into it, lives outside the clone
# (NIGHTFORGE_CACHE, default ~/.cache/nightforge) and is complete when its mark is there: a second call installs nothing.
set -euo pipefail

name=${1:?"usage: docker/make-env.sh airflow|ray"}
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || python=python3
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
  echo "make-env: $python is $("$python" --version 2>&1). Expected: Python 3.11, which the locks were resolved for." \
       "To do: install it, or name it with PYTHON=/path/to/python3.11." >&2
  exit 2
}

case $name in
  airflow) locks=("$root/docker/airflow/requirements.lock" "$root/tests/requirements-airflow.lock")
           packages=("$root/plugins/rayjob_provider") ;;
  ray)     locks=("$root/docker/ray/requirements-cpu-torch.lock" "$root/docker/ray/requirements-cpu.lock" "$root/tests/requirements-ray.lock")
           packages=() ;;
  *) echo "make-env: there is no environment '$name'. Expected: airflow or ray." >&2; exit 2 ;;
esac

# The provider is installed for its entry point; its code is taken from the clone (PYTHONPATH), so only its metadata counts.
metadata=("${packages[@]/%//pyproject.toml}")
hash=$(cat "${locks[@]}" "${metadata[@]}" "$0" | sha256sum | cut -c1-12)
envs=${NIGHTFORGE_CACHE:-$HOME/.cache/nightforge}/envs
env=$envs/$name-$hash
mkdir -p "$envs"

exec 9>"$envs/$name.lock"
flock 9
if [ ! -f "$env/.complete" ]; then
  rm -rf "$env"
  echo "make-env: installing the $name environment into $env" >&2
  "$python" -m venv "$env" >&2
  for lock in "${locks[@]}"; do
    "$env/bin/python" -m pip install --quiet --no-deps --requirement "$lock" >&2
  done
  for package in "${packages[@]}"; do
    # Built from a copy: a build writes beside its sources, and a clone stays clean.
    copy=$(mktemp -d)
    cp -r "$package" "$copy/package"
    "$env/bin/python" -m pip install --quiet --no-deps "$copy/package" >&2
    rm -rf "$copy"
  done
  touch "$env/.complete"
fi
echo "$env/bin/python"
