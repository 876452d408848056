#!/usr/bin/env bash
# What OHI's services run now, a line each: the name of the service and its task definition. Whoever
# deploys by hand notes it before, to be able to go back.
set -euo pipefail
: "${SANDBOX_ENDPOINT:?run: eval \"\$(scripts/sandbox env)\"}"
cluster=ohi-sandbox

aws() { "$SANDBOX_BIN/aws" --endpoint-url "$SANDBOX_ENDPOINT" --output text "$@"; }

for service in $(aws ecs list-services --cluster $cluster --query 'serviceArns[]'); do
    aws ecs describe-services --cluster $cluster --services "$service" --query 'services[].[serviceName,taskDefinition]'
done
