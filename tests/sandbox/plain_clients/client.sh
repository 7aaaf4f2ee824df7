#!/usr/bin/env bash
# A shop in bash, curl and openssl. `client.sh pay` makes and pays a link; `client.sh verify PATH SIGNATURE` judges the
# webhook on its standard input. Says what it found as name=value.
set -euo pipefail
API=/public-api/v1/api

sign() { # PATH, then the body on standard input
  { printf %s "$1"; cat; } | sed 's/[\\"'"'"']/\\&/g' | openssl dgst -sha256 -hmac "$SECRET" | sed 's/.*= *//'
}

ask() { # METHOD PATH QUERY BODY SIGNATURE
  local body=()
  if [ "$1" = POST ]; then body=(--data-binary "$4" -H 'Content-Type: application/json'); fi
  curl -sS --max-time 60 --cacert "$CA_FILE" -X "$1" -H "IK-APPID: $APP_ID" -H "IK-SIGN: $5" "${body[@]}" "$BASE$2$3"
}

read_signed() { ask GET "$1" "${2:-}" '' "$(printf '' | sign "$1")"; } # PATH QUERY

member() { sed -n 's/.*"'"$1"'": *"\([^"]*\)".*/\1/p'; }

pay() {
  local body link id page back
  body='{"entityID":"'$APP_ID'","amount":12345,"currency":"ZAR","requesterUrl":"'$SHOP'","mode":"live",'
  body+='"description":"Thabo'"'"'s \"café\" \\ <a&b>","externalTransactionID":"'$REFERENCE'",'
  body+='"urls":{"callbackUrl":"'$SHOP$HOOK'","successPageUrl":"'$SHOP/ok'","failurePageUrl":"'$SHOP/no'"}}'
  echo "forged=$(ask POST $API/payment '' "$body" "$(printf %s "$body" | SECRET=wrong sign $API/payment)" | member responseCode)"
  link=$(ask POST $API/payment '' "$body" "$(printf %s "$body" | sign $API/payment)")
  echo "code=$(member responseCode <<<"$link")"
  id=$(member paylinkID <<<"$link") page=$(member paylinkUrl <<<"$link")
  echo "id=$id"
  echo "before=$(read_signed "$API/getStatus/$id" | member status)"
  curl -sS --max-time 60 --cacert "$CA_FILE" "$page" | grep '<form' >/dev/null && echo page=form
  back=$(curl -sS --max-time 60 --cacert "$CA_FILE" -o /dev/null -w '%{redirect_url}' \
    --data-urlencode 'card=4242 4242 4242 4242' --data-urlencode 'expiry=12/34' --data 'cvc=123&action=pay' "$page")
  echo "back=${back#"$SHOP"}"
  echo "after=$(read_signed "$API/getStatus/$id" | member status)"
  echo "found=$(read_signed "$API/getStatus/external" "?externalReference=$REFERENCE" | member paylinkID)"
  echo "listed=$(read_signed "$API/payments/history" "?startDate=$(date -u +%F -d yesterday)&endDate=$(date -u +%F -d tomorrow)" |
    grep -o "\"paylinkID\": *\"$id\"" | wc -l)"
}

verify() {
  if [ "$(sign "$1")" = "$2" ]; then echo webhook=accepted; else echo webhook=refused; fi
}

"$@"
