#!/bin/sh
# keep-running.sh PIDFILE COMMAND…: runs the command, writes its process id into PIDFILE, and starts it again whenever it
# ends, as a service manager would. So a test may `kill -9` the server and go on with one that has come back.
pidfile=$1
shift
child=
trap 'kill "$child" 2>/dev/null; wait "$child" 2>/dev/null; exit 0' TERM INT
while :; do
  "$@" &
  child=$!
  echo "$child" >"$pidfile.part" && mv "$pidfile.part" "$pidfile"
  wait "$child"
  sleep 0.2
done
