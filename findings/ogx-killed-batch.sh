#!/usr/bin/env bash
# OGX 1.5.0, started with an API key: killed while it indexes a file batch, it takes the batch up again when it is back, and
# ends every file of it as failed, "File '…' not found", although GET /files/{id} answers each of them. Guessed: it goes on, or
# the files stay in_progress. (Read, not tried: it takes batches up while it starts, outside of any request, and so as nobody,
# whom the files do not belong to.) A caller must attach such files again; uploading them again is of no use.
. "$(dirname "$0")/lib/ogx.sh"
install_ogx
start_ogx
store="$(make_store)"
text="$(seq 1 20000)"
one="$(upload one.txt "$text")"
two="$(upload two.txt "$text")"
batch="$(call POST "/vector_stores/$store/file_batches" "{\"file_ids\":[\"$one\",\"$two\"]}")"
seen "the batch, as it was answered" in_progress "$(field 'd["status"]' <<<"$batch")"
kill -9 "$ogx"
wait "$ogx" 2>/dev/null || true
start_ogx
attached "$store" "$one"
attached "$store" "$two"
file="$(call GET "/vector_stores/$store/files/$one")"
seen "a file of the batch after the restart" failed "$(field 'd["status"]' <<<"$file")"
seen "its code" server_error "$(field 'd["last_error"]["code"]' <<<"$file")"
seen "its message speaks of a file that is not found" True \
  "$(field '"not found" in d["last_error"]["message"]' <<<"$file")"
seen "GET /files/{id} of it" 200 "$(status_of GET "/files/$one")"
call DELETE "/vector_stores/$store/files/$one" >"$work/detached"
call POST "/vector_stores/$store/files" "{\"file_id\":\"$one\"}" >"$work/attached"
attached "$store" "$one"
seen "detached and attached again" completed "$(call GET "/vector_stores/$store/files/$one" | field 'd["status"]')"
