# What CI runs, by the same names. `just check` before a commit, `just test` before a push.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Format, lints, shell scripts.
check:
    cargo fmt --check
    cargo clippy --all-targets --features crash-points --locked -- -D warnings
    shellcheck scripts/demo scripts/test scripts/sandbox scripts/lib/*.sh scripts/bench/*.sh scripts/bench/*/*.sh .ci/run

# Everything, against the sandbox.
test:
    scripts/test

# A run killed at every point of the sample's deployment, change and rollback, not at a sample of them.
crash-everywhere:
    FLOW_CRASH_SAMPLE=all scripts/test --test flow crash:: -- --nocapture --test-threads=1

# The sandbox up, the sample deployed.
demo:
    scripts/demo

# Start, stop, reset, show the sandbox: just sandbox up
sandbox what="status":
    scripts/sandbox {{what}}

# Flow and its peers side by side: just bench --only one null
bench *what:
    scripts/bench/run {{what}}
