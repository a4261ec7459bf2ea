#!/bin/sh
# Written by slipway. Asks the haproxy beside whether this host may hold the address: check ADDRESS.
if command -v curl >/dev/null 2>&1; then
  exec curl -fs -o /dev/null --max-time 2 "$1"
fi
exec wget -q -T 2 -O /dev/null "$1"
