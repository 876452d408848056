# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # run, log: sandbox-base.sh; aws_fresh: scripts/sandbox
# The AWS: ministack in a Python environment of its own; its ECS starts real containers.

aws_url=http://127.0.0.1:${aws_port:?}
aws_requirements=${here:?}/lib/sandbox-requirements.txt
# Named after its content: a changed pin makes a new environment, never a half-changed one.
venv=${FLOW_SANDBOX_VENV:-${home:?}/venv-$(sha256sum "$aws_requirements" | cut -c1-12)}
# What marks the containers that this AWS started, on an engine that others use too.
aws_instance=flow-sandbox

aws_answers() { curl -fsS --noproxy '*' --max-time 2 -o "$1" "$aws_url/_ministack/ready"; }

aws_alive() { daemon_pid ministack >/dev/null && aws_answers /dev/null 2>/dev/null; }

# Sets aws_fresh when it had to be started: then there is nothing in it.
aws_fresh=
aws_up() {
    local engine
    engine=$(engine_url)
    # One of an older pin is started anew: it may lack what the tests of today need.
    if aws_alive && [ -x "$venv/bin/ministack" ] &&
        [ "$(cat "$run/ministack.engine" 2>/dev/null)" = "$engine" ]; then return; fi
    aws_down
    aws_install
    if port_taken "$aws_port"; then
        die "port $aws_port is taken by somebody else; choose another with FLOW_SANDBOX_AWS_PORT"
    fi
    # A clean environment: the caller's AWS, proxy and Docker settings must not reach it.
    daemon_start ministack env -i PATH="$PATH" HOME="$home/tmp" TMPDIR="$home/tmp" LANG=C.UTF-8 \
        PYTHONUNBUFFERED=1 DOCKER_HOST="$engine" GATEWAY_PORT="$aws_port" BIND_HOST=127.0.0.1 \
        MINISTACK_HOSTNAME="$aws_instance" SFTP_ENABLED=0 IOT_MTLS_ENABLED=0 "$venv/bin/ministack"
    wait_for_daemon ministack 60 aws_answers /dev/null ||
        die_with_log "the AWS does not come up at $aws_url" "$log/ministack.log"
    printf '%s\n' "$engine" >"$run/ministack.engine"
    aws_fresh=1
}

aws_install() {
    [ ! -x "$venv/bin/ministack" ] || return 0
    local python
    python=$(aws_python) || {
        need_packages python3 python3-venv
        python=$(aws_python) || die "python 3.10 or newer with its venv module is needed"
    }
    say "installing ministack and awscli into $venv"
    # Made under its final name, because its programs name it, and removed when incomplete.
    if ! { "$python" -m venv --clear "$venv" &&
        "$venv/bin/python" -m pip --disable-pip-version-check install -q -r "$aws_requirements"; } >"$log/pip.log" 2>&1 9>&-; then
        rm -rf "$venv"
        die_with_log "pip could not install the pinned packages of $aws_requirements" "$log/pip.log"
    fi
}

aws_python() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            printf '%s\n' "$python"
            return
        fi
    done
    return 1
}

aws_containers() {
    DOCKER_HOST=$(engine_url) timeout 20 docker ps -aq --filter "label=ministack.instance=$aws_instance:$aws_port"
}

aws_remove_containers() {
    local ids
    mapfile -t ids < <(aws_containers 2>/dev/null)
    [ "${#ids[@]}" = 0 ] || DOCKER_HOST=$(engine_url) timeout 60 docker rm -f -v "${ids[@]}" >/dev/null 2>&1 || true
}

aws_empty() {
    curl -fsS --noproxy '*' --max-time 60 -o /dev/null -X POST "$aws_url/_ministack/reset" ||
        die_with_log "the AWS could not be emptied" "$log/ministack.log"
    aws_remove_containers
    [ -z "$(aws_containers)" ] || die "containers of the AWS could not be removed: $(aws_containers | tr '\n' ' ')"
}

aws_down() {
    daemon_stop ministack TERM 15
    rm -f "$run/ministack.engine"
    if engine_alive; then aws_remove_containers; fi
}

aws_status() {
    if ! aws_alive; then
        echo "aws       down"
        return 1
    fi
    echo "aws       up    $aws_url   $("$venv/bin/python" -c 'from importlib.metadata import version; print("ministack", version("ministack"))'), pid $(daemon_pid ministack)"
}
