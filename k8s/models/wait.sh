#!/bin/sh
# wait.sh LIST REPOSITORY
# Returns once REPOSITORY has every model of LIST: a server that started before would be ready without them. Says what it
# waits for, and what became of the export, whenever that changes and once a minute.
set -eu
list=$1 repository=$2 said= rounds=0
missing() {
  while read -r name version _; do
    case $name in '' | \#*) continue ;; esac
    [ -f "$repository/$name/$version/manifest.json" ] || printf ' %s' "$name/$version"
  done < "$list"
}
while lacks=$(missing) && [ -n "$lacks" ]; do
  why="the export Job: kubectl logs -l app.kubernetes.io/component=export --tail=-1"
  if [ -f "$repository.failed" ]; then why="$(cat "$repository.failed"), by $why"; fi
  if [ "$lacks$why" != "$said" ] || [ $((rounds % 12)) = 0 ]; then
    echo "waiting for$lacks; $why"
    said=$lacks$why
  fi
  rounds=$((rounds + 1))
  sleep 5
done
