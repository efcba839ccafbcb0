#!/usr/bin/env bash
# OGX 1.5.0: a page of a vector store's files that is asked for after a file which is no longer there (somebody detached it
# between two pages) is the first page again, with has_more. Guessed: 400 as OpenAI answers, or the page after where it stood.
# A walk through the pages begins anew without a word, and never ends if it happens each time: callers must notice files that
# they have met before.
. "$(dirname "$0")/lib/ogx.sh"
install_ogx
start_ogx
store="$(make_store)"
for name in a b c d; do
  file="$(upload "$name.txt" "text of $name")"
  call POST "/vector_stores/$store/files" "{\"file_id\":\"$file\"}" >"$work/attached"
  attached "$store" "$file"
done
list="/vector_stores/$store/files?limit=2&order=asc"
first="$(call GET "$list")"
ids='[f["id"] for f in d["data"]]'
before="$(field "$ids" <<<"$first")"
last="$(field 'd["last_id"]' <<<"$first")"
seen "the page after the last id of the first differs from it" True \
  "$([ "$(call GET "$list&after=$last" | field "$ids")" != "$before" ] && echo True || echo False)"
gone="$(upload gone.txt "attached and detached")"
call POST "/vector_stores/$store/files" "{\"file_id\":\"$gone\"}" >"$work/attached"
attached "$store" "$gone"
call DELETE "/vector_stores/$store/files/$gone" >"$work/detached"
seen "the page after a file that was detached: the status" 200 "$(status_of GET "$list&after=$gone")"
after="$(call GET "$list&after=$gone")"
seen "it is the first page" True "$([ "$(field "$ids" <<<"$after")" = "$before" ] && echo True || echo False)"
seen "has_more" True "$(field 'd["has_more"]' <<<"$after")"
