#!/usr/bin/env bash
# The same deployment as flows/deploy.kdl, written the usual way: aws-cli, docker and psql in a
# row. Only for comparison on the same sandbox, emptied in between (it keeps its own list of
# migrations); needs jq.
#
#   scripts/sandbox reset; eval "$(scripts/sandbox env)"; time scripts/bench/deploy.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../tests/fixtures/shop"
: "${SANDBOX_ENDPOINT:?run: eval \"\$(scripts/sandbox env)\"}"

cluster=shop-sandbox
registry=${SANDBOX_ENDPOINT#http://}
tag=$(git rev-parse --short HEAD)
services=(api catalog worker)

aws() { "$SANDBOX_BIN/aws" --endpoint-url "$SANDBOX_ENDPOINT" --output text "$@"; }
say() { printf '%3ds  %s\n' "$SECONDS" "$1"; }

say "infrastructure"
aws cloudformation deploy --stack-name $cluster --template-file infrastructure/base.yaml \
    --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset >/dev/null
distribution=$(aws cloudformation describe-stacks --stack-name $cluster \
    --query "Stacks[0].Outputs[?OutputKey=='DistributionId'].OutputValue")

say "images"
for service in "${services[@]}"; do
    (cd "backend/$service" && gcc -static -Os -s -pthread -D_GNU_SOURCE -o service main.c ../common/http.c)
    DOCKER_BUILDKIT=0 docker build -q -t "$registry/shop-$service:$tag" "backend/$service" >/dev/null 2>&1
    docker push -q "$registry/shop-$service:$tag" >/dev/null
done

say "migrations"
psql() { command psql -XqAt -v ON_ERROR_STOP=1 "$SANDBOX_DATABASE_URL" "$@"; }
psql -c 'set client_min_messages = warning; create table if not exists schema_migrations (name text primary key)'
for file in backend/migrations/*.sql; do
    name=$(basename "$file")
    [ -z "$(psql -c "select 1 from schema_migrations where name = '$name'")" ] || continue
    psql -1 -f "$file" -c "insert into schema_migrations values ('$name')"
done

say "services"
for service in "${services[@]}"; do
    definition=$(aws ecs describe-task-definition --task-definition "$cluster-$service" --output json |
        jq --arg image "$registry/shop-$service:$tag" '.taskDefinition
            | del(.taskDefinitionArn, .revision, .status, .requiresAttributes, .compatibilities,
                  .registeredAt, .registeredBy, .deregisteredAt)
            | .containerDefinitions[0].image = $image
            | del(.. | select(. == "" or . == null))')
    revision=$(aws ecs register-task-definition --cli-input-json "$definition" \
        --query taskDefinition.taskDefinitionArn)
    aws ecs update-service --cluster $cluster --service "$cluster-$service" --task-definition "$revision" \
        --desired-count 2 --query service.status >/dev/null
done
for service in "${services[@]}"; do
    aws ecs wait services-stable --cluster $cluster --services "$cluster-$service"
done

say "site"
API_URL=$SANDBOX_ENDPOINT/_alb/$cluster sh frontend/build.sh
aws s3 sync frontend/dist/assets s3://$cluster-site/assets --cache-control 'public, max-age=31536000, immutable' --only-show-errors
aws s3 sync frontend/dist s3://$cluster-site --cache-control no-cache --delete --only-show-errors
aws cloudfront create-invalidation --distribution-id "$distribution" --paths '/*' --query Invalidation.Id >/dev/null

say "done"
curl -fsS --noproxy '*' "$SANDBOX_ENDPOINT/_alb/$cluster/"
