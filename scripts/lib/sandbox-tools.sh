# shellcheck shell=bash
# The infrastructure CLIs that the tests run for real, installed once per machine, not per sandbox.
#
# Each has a file of its own, tool-NAME.sh, that adds NAME to tools and gives NAME_install: it
# installs into a folder of $tools_home named after its pins, links the programs into $tools_bin,
# and answers at once when that is done. Where the machine lacks what it needs it says so with
# `skip_tool` and the tests of that CLI say that they were skipped.

tools_home=${FLOW_SANDBOX_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/flow-tools}
tools_bin=$tools_home/bin
tools=()

for part in "${here:?}"/lib/tool-*.sh; do
    [ -e "$part" ] || continue
    # shellcheck source=/dev/null
    . "$part"
done

skip_tool() { say "no $1: $2"; }

# One machine-wide lock: two sandboxes of one machine share the tools.
tools_up() {
    local tool
    mkdir -p "$tools_bin"
    exec 8>"$tools_home/lock"
    flock -w 1800 8 || die "another scripts/sandbox has been installing tools for half an hour"
    for tool in "${tools[@]}"; do
        "${tool}_install" 8>&-
    done
}
