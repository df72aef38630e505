#!/bin/sh
# export.sh LIST REPOSITORY CACHE
# Exports each model of LIST that REPOSITORY lacks. A version appears whole or not at all, so that a run that was cut
# short is simply run again. One that fails does not stop the others. What failed is in REPOSITORY.failed, for those that
# wait for it (wait.sh).
set -eu
list=$1 repository=$2 cache=$3 failed=
rm -f "$repository.failed"
while read -r name version checkpoint options; do
  case $name in '' | \#*) continue ;; esac
  if [ -f "$repository/$name/$version/manifest.json" ]; then
    echo "$name/$version: there already"
    continue
  fi
  # shellcheck disable=SC2086 # the options are words
  ganserve export "$checkpoint" --repository "$repository" --name "$name" --version "$version" --cache "$cache" \
    $options < /dev/null || failed="$failed $name/$version"
done < "$list"
if [ -n "$failed" ]; then
  echo "not exported:$failed" | tee "$repository.failed" >&2
  exit 1
fi
