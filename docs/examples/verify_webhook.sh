#!/bin/sh
# Verify one webhook by hand: WEBHOOK_SECRET=whsec_… verify_webhook.sh ID TIMESTAMP SIGNATURES < body
# The key is visible in the process list while openssl runs: use this only on a machine of your own.
set -f
case $2 in
[1-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]) age=$(($(date +%s) - $2)) ;;
*) age=301 ;;
esac
if [ "$age" -gt 300 ] || [ "$age" -lt -300 ]; then
    echo "timestamp missing, too old or too new" >&2
    exit 1
fi
key=$(printf %s "${WEBHOOK_SECRET#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
expected=$({ printf '%s.%s.' "$1" "$2"; cat; } |
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
for signature in $3; do
    if [ "$signature" = "v1,$expected" ]; then
        echo "signature valid"
        exit 0
    fi
done
echo "no matching signature" >&2
exit 1
