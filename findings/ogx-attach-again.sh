#!/usr/bin/env bash
# OGX 1.5.0: attaching a file that is attached already, with another chunking strategy, answers 200 and the old strategy, and
# nothing is chunked anew. Guessed: 200 with the new strategy, as the request says, or 400 as OpenAI answers.
# A caller must detach first.
. "$(dirname "$0")/lib/ogx.sh"
install_ogx
start_ogx
store="$(make_store)"
file="$(upload page.txt "$(seq 1 2000)")"
strategy() { printf '{"type":"static","static":{"max_chunk_size_tokens":%d,"chunk_overlap_tokens":%d}}' "$1" "$2"; }
call POST "/vector_stores/$store/files" "{\"file_id\":\"$file\",\"chunking_strategy\":$(strategy 200 20)}" >"$work/first"
attached "$store" "$file"
size='d["chunking_strategy"]["static"]["max_chunk_size_tokens"]'
seen "attached with" 200 "$(field "$size" <"$work/first")"
again="{\"file_id\":\"$file\",\"chunking_strategy\":$(strategy 900 90)}"
seen "attached again with 900: the status" 200 "$(status_of POST "/vector_stores/$store/files" "$again")"
seen "attached again with 900: the answer" 200 "$(call POST "/vector_stores/$store/files" "$again" | field "$size")"
seen "what the store has" 200 "$(call GET "/vector_stores/$store/files/$file" | field "$size")"
