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
  airflow) torch_lock=() lock=$root/docker/airflow/requirements.lock packages=("$root/plugins/rayjob_provider") ;;
  ray)     torch_lock=("$root/docker/ray/requirements-cpu-torch.lock") lock=$root/docker/ray/requirements-cpu.lock packages=() ;;
  *) echo "make-env: there is no environment '$name'. Expected: airflow or ray." >&2; exit 2 ;;
esac
tests_lock=$root/tests/requirements-$name.lock

hash_of() { cat "$@" | sha256sum | cut -c1-12; }
# uv installs a lock many times faster than pip; PyTorch's wheel goes through pip, which also looks into its find-links.
install() { "$env/bin/uv" pip install --quiet --python "$env/bin/python" --no-deps "$@" >&2; }
UV_VERSION=0.13.9

# The provider is installed for its entry point; its code is taken from the clone (PYTHONPATH), so only its metadata counts.
env_hash=$(hash_of "${torch_lock[@]}" "$lock" "${packages[@]/%//pyproject.toml}")
tests_mark=tests-$(hash_of "$tests_lock")
envs=${NIGHTFORGE_CACHE:-$HOME/.cache/nightforge}/envs
env=$envs/$name-$env_hash
mkdir -p "$envs"

exec 9>"$envs/$name.lock"
flock 9
if [ ! -f "$env/.complete" ]; then
  rm -rf "$env"
  echo "make-env: installing the $name environment into $env" >&2
  "$python" -m venv "$env" >&2
  "$env/bin/python" -m pip install --quiet "uv==$UV_VERSION" >&2
  for file in "${torch_lock[@]}"; do "$env/bin/python" -m pip install --quiet --no-deps --requirement "$file" >&2; done
  install --requirement "$lock"
  for package in "${packages[@]}"; do
    # Built from a copy: a build writes beside its sources, and a clone stays clean.
    copy=$(mktemp -d)
    cp -r "$package" "$copy/package"
    install "$copy/package"
    rm -rf "$copy"
  done
  touch "$env/.complete"
fi
if [ ! -f "$env/.$tests_mark" ]; then
  echo "make-env: adding the test tools to $env" >&2
  install --requirement "$tests_lock"
  touch "$env/.$tests_mark"
fi
echo "$env/bin/python"
