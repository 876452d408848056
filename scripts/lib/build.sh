# shellcheck shell=bash
# Where and with what scripts/demo and scripts/test build. Sourced by them.

# Outside the checkout, so that a clone stays small and clones share what is built.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/flow-target}

need_cargo() {
    # rustup puts cargo there, and a fresh shell may not know it yet.
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null || {
        echo "cargo is missing: install Rust 1.95 or newer (rustup install stable) and try again" >&2
        exit 1
    }
}
