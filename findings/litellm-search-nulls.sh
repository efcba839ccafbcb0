#!/usr/bin/env bash
# LiteLLM 1.108.7 in front of OGX 1.5.0: a search with nothing but the required `query` is refused with 400. OGX answers the same
# request itself; the proxy adds the optional fields as null. Guessed: a proxy passes on what it was sent.
# Callers behind this proxy must send max_num_results and rewrite_query always.
. "$(dirname "$0")/lib/ogx.sh"
install_ogx
environment litellm
start_ogx
store="$(make_store)"
file="$(upload page.txt "one two three")"
call POST "/vector_stores/$store/files" "{\"file_id\":\"$file\"}" >"$work/attached"
attached "$store" "$file"
search="/vector_stores/$store/search"
seen "at OGX, {query}" 200 "$(status_of POST "$search" '{"query":"two"}')"
upstream="$url"
port="$(free_port)"
url="http://127.0.0.1:$port/v1"
sed "s#@UPSTREAM_KEY@#$key#;s#@UPSTREAM@#$upstream#;s#@KEY@#$key#" "$sources/litellm.yaml" |
  sed "s#@UPSTREAM_KEY@#$key#g;s#@UPSTREAM@#$upstream#g" >"$work/litellm.yaml"
(cd "$work/state" && LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_LOCAL_POLICY_TEMPLATES=True LITELLM_TELEMETRY=False \
  OPENAI_API_KEY="$key" OPENAI_BASE_URL="$upstream" OPENAI_API_BASE="$upstream" exec "$work/litellm/bin/litellm" \
  --config "$work/litellm.yaml" --host 127.0.0.1 --port "$port" --num_workers 1) >"$work/litellm.log" 2>&1 &
programs+=($!)
wait_for "$url/vector_stores" "$work/litellm.log"
seen "through LiteLLM, {query}" 400 "$(status_of POST "$search" '{"query":"two"}')"
seen "through LiteLLM, with all fields" 200 \
  "$(status_of POST "$search" '{"query":"two","max_num_results":5,"rewrite_query":false}')"
