# shellcheck shell=bash
# What all parts of the sandbox share: messages, waiting, daemons by pid file, Debian packages.
# Sourced by scripts/sandbox, which sets $home and the ports.

run=${home:?}/run
log=$home/log

die() {
    printf 'sandbox: %s\n' "$1" >&2
    exit 1
}

say() { printf 'sandbox: %s\n' "$1" >&2; }

# die_with_log MESSAGE FILE: the reason is nearly always in the last lines.
die_with_log() {
    printf 'sandbox: %s\n' "$1" >&2
    if [ -s "$2" ]; then
        printf '  last lines of %s:\n' "$2" >&2
        tail -n 12 "$2" | sed 's/^/    /' >&2
    fi
    exit 1
}

prepare_home() {
    # The engine keeps sockets below this folder, and a socket's path holds 107 bytes.
    [ "${#home}" -le 70 ] || die "the path of FLOW_SANDBOX_HOME is too long for unix sockets (${#home} bytes, at most 70): $home"
    mkdir -p "$run" "$log" "$home/tmp"
}

# One command changes the sandbox at a time; a second one waits for the first.
with_lock() {
    prepare_home
    exec 9>"$home/lock"
    flock -w 900 9 || die "another scripts/sandbox has been working in $home for 15 minutes"
    "$1"
}

# ---- daemons -------------------------------------------------------------------------------
# A pid alone may since belong to somebody else: its start time is kept beside it.

started_at() { [ -r "/proc/$1/stat" ] && sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# daemon_pid NAME: prints the pid when the process that we started is still the one running.
daemon_pid() {
    local pid start
    [ -r "$run/$1.pid" ] || return 1
    read -r pid start <"$run/$1.pid" || return 1
    [ -n "$pid" ] && [ -n "$start" ] && [ "$(started_at "$pid")" = "$start" ] || return 1
    printf '%s\n' "$pid"
}

# daemon_start NAME COMMAND…: in a session of its own, output to the log, lock not inherited.
daemon_start() {
    local name=$1
    shift
    setsid "$@" >"$log/$name.log" 2>&1 </dev/null 9>&- &
    printf '%s %s\n' "$!" "$(started_at "$!")" >"$run/$name.pid"
}

# daemon_stop NAME SIGNAL SECONDS: asks, waits, and only then kills.
daemon_stop() {
    local pid
    if pid=$(daemon_pid "$1"); then
        kill -s "$2" "$pid" 2>/dev/null || true
        if ! wait_until "$3" daemon_gone "$1"; then
            kill -s KILL "$pid" 2>/dev/null || true
            wait_until 5 daemon_gone "$1" || die "$1 (pid $pid) does not stop"
        fi
    fi
    rm -f "$run/$1.pid"
}

daemon_gone() { ! daemon_pid "$1" >/dev/null; }

# wait_until SECONDS COMMAND…: true as soon as the command is.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

# wait_for_daemon NAME SECONDS COMMAND…: like wait_until, but ends when the daemon dies.
wait_for_daemon() {
    local name=$1 seconds=$2
    shift 2
    wait_until "$seconds" answers_or_gone "$name" "$@"
    "$@" >/dev/null 2>&1
}

answers_or_gone() {
    local name=$1
    shift
    "$@" || daemon_gone "$name"
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# ---- Debian packages -----------------------------------------------------------------------

# need_packages PACKAGE…: installs them, without letting Debian start their services.
need_packages() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "missing: $*; install them (apt-get install $*) and try again"
    fi
    say "installing $*"
    local policy=/usr/sbin/policy-rc.d ours=
    if [ ! -e $policy ]; then
        ours=$policy
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
    fi
    local ok=0
    {
        apt_get install "$@" || { apt_get update && apt_get install "$@"; }
    } >"$log/apt.log" 2>&1 || ok=$?
    [ -z "$ours" ] || rm -f "$ours"
    [ "$ok" = 0 ] || die_with_log "apt-get could not install $*" "$log/apt.log"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 \
        --no-install-recommends "$@" </dev/null 9>&-
}

# The sample services are static C programs.
compiler_install() {
    local missing=()
    command -v gcc >/dev/null || missing+=(gcc)
    [[ "$(gcc -print-file-name=libc.a 2>/dev/null)" == /* ]] || missing+=(libc6-dev)
    command -v curl >/dev/null || missing+=(curl ca-certificates)
    [ "${#missing[@]}" = 0 ] || need_packages "${missing[@]}"
}
