#!/bin/sh
# wait.sh LIST REPOSITORY
# Returns once REPOSITORY has every model of LIST: a server that started before would be ready without them.
set -eu
list=$1 repository=$2
while read -r name version _; do
  case $name in '' | \#*) continue ;; esac
  until [ -f "$repository/$name/$version/manifest.json" ]; do
    echo "waiting for $name/$version; see job/ganserve-export"
    sleep 5
  done
done < "$list"
