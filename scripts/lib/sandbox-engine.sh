# shellcheck shell=bash
# shellcheck disable=SC2154 # run, log: sandbox-base.sh
# The Docker engine: the one that answers, else one of our own below $home/docker.

engine_sock=${home:?}/docker.sock

engine_answers() { DOCKER_HOST=$1 timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

engine_owned() { daemon_pid dockerd >/dev/null; }

# The engine in the surroundings, if it answers: DOCKER_HOST, else the CLI's own default.
engine_around() {
    command -v docker >/dev/null || return 1
    local url=${DOCKER_HOST:-}
    [ -n "$url" ] || url=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null) ||
        url=unix:///var/run/docker.sock
    [ "$url" != "unix://$engine_sock" ] && engine_answers "$url" && printf '%s\n' "$url"
}

# What `up` settled on; before that, what it would use.
engine_url() {
    if engine_owned; then
        printf 'unix://%s\n' "$engine_sock"
    elif [ -s "$run/engine" ]; then
        cat "$run/engine"
    else
        engine_around || printf 'unix://%s\n' "$engine_sock"
    fi
}

engine_alive() { command -v docker >/dev/null && engine_answers "$(engine_url)"; }

engine_up() {
    if [ -s "$run/engine" ] && engine_alive; then return; fi
    if engine_owned; then daemon_stop dockerd TERM 20; fi
    local url
    if url=$(engine_around); then
        printf '%s\n' "$url" >"$run/engine"
        return
    fi
    if [ -n "${DOCKER_HOST:-}" ] && [ "$DOCKER_HOST" != "unix://$engine_sock" ]; then
        say "no engine answers at DOCKER_HOST=$DOCKER_HOST; starting one of our own"
    fi
    [ "$(id -u)" = 0 ] || die "no Docker engine answers, and only root can start one"
    PATH=$PATH:/usr/sbin:/sbin
    if ! command -v dockerd || ! command -v docker; then need_packages docker.io; fi >/dev/null
    engine_start
}

# The plain engine first; kernels and containers that lack overlay2 or netfilter get less.
engine_start() {
    local plain=(dockerd --data-root "$home/docker" --exec-root "$home/docker-run" -H "unix://$engine_sock"
        --pidfile "$home/docker.pid" --ip 127.0.0.1 --log-level warn)
    local extra
    for extra in "" "--storage-driver=vfs" "--storage-driver=vfs --iptables=false --ip6tables=false"; do
        rm -f "$home/docker.pid"
        # shellcheck disable=SC2086 # several options in one word, on purpose
        daemon_start dockerd "${plain[@]}" $extra
        if wait_for_daemon dockerd 60 engine_answers "unix://$engine_sock"; then
            printf 'unix://%s\n' "$engine_sock" >"$run/engine"
            return
        fi
        daemon_stop dockerd TERM 20
        mv "$log/dockerd.log" "$log/dockerd-failed.log"
    done
    die_with_log "the Docker engine does not start" "$log/dockerd-failed.log"
}

engine_down() {
    if engine_owned; then
        local ids
        mapfile -t ids < <(DOCKER_HOST=unix://$engine_sock timeout 20 docker ps -aq 2>/dev/null)
        [ "${#ids[@]}" = 0 ] || DOCKER_HOST=unix://$engine_sock timeout 60 docker rm -f "${ids[@]}" >/dev/null 2>&1 || true
        daemon_stop dockerd TERM 30
        rm -f "$engine_sock" "$home/docker.pid"
        # An engine that was once killed leaves its data folder mounted onto itself.
        if mountpoint -q "$home/docker"; then umount "$home/docker" || true; fi
    fi
    rm -f "$run/engine" "$run/dockerd.pid"
}

engine_status() {
    if ! engine_alive; then
        echo "engine    down"
        return 1
    fi
    local url whose="not ours, stays when the sandbox stops"
    url=$(engine_url)
    if engine_owned; then whose="ours, pid $(daemon_pid dockerd)"; fi
    DOCKER_HOST=$url docker info --format "engine    up    $url   {{.ServerVersion}} {{.Driver}}, {{.ContainersRunning}} containers running   $whose"
}
