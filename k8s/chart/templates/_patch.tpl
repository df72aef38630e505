{{/* Merges a patch into a map: (list MAP PATCH). null deletes, lists are replaced (RFC 7386). */}}
{{- define "ganserve.patch" -}}
{{- $target := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $target $key -}}
{{- else if and (kindIs "map" $value) (kindIs "map" (get $target $key)) -}}
{{- include "ganserve.patch" (list (get $target $key) $value) -}}
{{- else -}}
{{- $_ := set $target $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Merges patches by kind and name into objects: (list OBJECTS PATCHES). A patch that is no whole object changes only
one that is there. */}}
{{- define "ganserve.patch-all" -}}
{{- $objects := index . 0 -}}
{{- range $title, $patch := index . 1 -}}
{{- if kindIs "invalid" $patch -}}
{{- $_ := unset $objects $title -}}
{{- else if hasKey $objects $title -}}
{{- include "ganserve.patch" (list (get $objects $title) $patch) -}}
{{- else if hasKey $patch "kind" -}}
{{- $_ := set $objects $title $patch -}}
{{- end -}}
{{- end -}}
{{- end -}}
