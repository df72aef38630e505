#!/bin/sh
# quickstart.sh [kind|minikube|k3s]
# From a checkout to a picture: a cluster on this machine, its images, one small server (overlays/kind), face.png.
# kind: makes a cluster `ganserve` if there is none. minikube, k3s: uses the one that runs. Needs kubectl, docker, curl and
# the cluster's own command. Run again, it goes on where it was. Afterwards: kind delete cluster --name ganserve.
set -eu
cluster=${1:-kind} version=0.1.0
cd "$(dirname "$0")/.."

case $cluster in
  kind) needs="kubectl docker curl kind" ;;
  minikube) needs="kubectl docker curl minikube" ;;
  k3s) needs="kubectl docker curl k3s" ;;
  *) echo "quickstart.sh: $cluster is none of kind, minikube, k3s" >&2 && exit 2 ;;
esac
for command in $needs; do
  command -v "$command" > /dev/null || { echo "quickstart.sh: needs $command, which is not on the path" >&2 && exit 2; }
done

if [ "$cluster" = kind ]; then
  kind get clusters | grep -qx ganserve || kind create cluster --name ganserve --wait 5m
  kubectl config use-context kind-ganserve
fi

# PyPI's torch brings gigabytes of CUDA, the other index the build for CPUs.
docker build --target server-cpu --tag "ghcr.io/ganserve/ganserve-cpu:$version" .
docker build --target export --tag "ghcr.io/ganserve/ganserve-export:$version" \
  --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu .
for image in "ghcr.io/ganserve/ganserve-cpu:$version" "ghcr.io/ganserve/ganserve-export:$version"; do
  case $cluster in
    kind) kind load docker-image "$image" --name ganserve ;;
    minikube) minikube image load "$image" ;;
    k3s) docker save "$image" | k3s ctr images import - ;;
  esac
done

kubectl apply -k k8s/overlays/kind
# The server waits for the export Job, and says so: kubectl -n ganserve logs deployment/ganserve -c wait-for-models
kubectl -n ganserve rollout status deployment/ganserve --timeout=30m

kubectl -n ganserve port-forward deployment/ganserve 8000:8000 &
forward=$!
trap 'kill $forward 2> /dev/null || true' EXIT
curl --silent --show-error --fail --retry 30 --retry-delay 1 --retry-all-errors \
  --output face.png localhost:8000/v1/models/faces:generate -d '{"seed": 7}'
echo "face.png: a face that was served by the cluster. More: https://github.com/ganserve/ganserve/blob/main/docs/http.md"
