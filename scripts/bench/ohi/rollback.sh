#!/usr/bin/env bash
# OHI back to its former version, written the usual way: aws-cli in a row for eleven services, the
# site and its edge. Only for comparison on the same sandbox.
#
#   eval "$(scripts/sandbox env)"; scripts/bench/ohi/note.sh >former; … deploy …
#   scripts/bench/ohi/rollback.sh former SITE
#
# SITE is the folder of the former site.
set -euo pipefail
: "${SANDBOX_ENDPOINT:?run: eval \"\$(scripts/sandbox env)\"}"
former=$1 site=$2
cluster=ohi-sandbox
bucket=$cluster-frontend-hosting

aws() { "$SANDBOX_BIN/aws" --endpoint-url "$SANDBOX_ENDPOINT" --output text "$@"; }
say() { printf '%3ds  %s\n' "$SECONDS" "$1"; }

say "services"
services=()
while read -r service definition; do
    aws ecs update-service --cluster $cluster --service "$service" --task-definition "$definition" \
        --query service.status >/dev/null
    services+=("$service")
done <"$former"
# Ten at a time is what one question may be about.
for ((at = 0; at < ${#services[@]}; at += 10)); do
    aws ecs wait services-stable --cluster $cluster --services "${services[@]:at:10}"
done

say "health"
for host in api graphql sse provider-api; do
    until curl -fsS -o /dev/null --noproxy '*' "$SANDBOX_ENDPOINT/_alb/$cluster/$host/health"; do sleep 1; done
done

say "site"
aws s3 sync "$site/assets" s3://$bucket/assets --cache-control 'public, max-age=31536000, immutable' --only-show-errors
aws s3 sync "$site" s3://$bucket --cache-control 'public, s-maxage=300, max-age=0' --delete --only-show-errors
distribution=$(aws cloudfront list-distributions --query 'DistributionList.Items[0].Id')
aws cloudfront create-invalidation --distribution-id "$distribution" --paths '/*' --query Invalidation.Id >/dev/null

say "done"
