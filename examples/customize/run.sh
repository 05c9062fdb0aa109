#!/bin/sh
# run.sh <program> <crayon>: runs the program beside a server that has the pool.
rm -f server.url
"$2" serve --model device --pool pool.safetensors --port 0 > server.url 2> /dev/null &
server=$!
trap 'kill $server' EXIT
tries=0
while [ ! -s server.url ] && [ $tries -lt 400 ]; do
  sleep 0.05
  tries=$((tries + 1))
done
"$1" "$(cat server.url)"
