# shellcheck shell=bash
# shellcheck disable=SC2154 # home, run, log: sandbox-base.sh and scripts/sandbox
# PostgreSQL: a cluster of our own, on loopback and on a unix socket in its folder.

# Pinned to the major version that the knowledge of the test bed was gathered with.
pg_bin=/usr/lib/postgresql/15/bin

postgres_url() { printf 'postgres://flow:flow@127.0.0.1:%s/shop\n' "${pg_port:?}"; }

# postgres refuses to run as root; Debian's package brings a user for it.
as_postgres=()
if [ "$(id -u)" = 0 ]; then as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups); fi

# Where the cluster lies. The helper user often cannot enter root's home: then a private
# folder below /var/tmp, remembered here.
postgres_dir() {
    local dir=$home/postgres
    if [ -s "${run:?}/postgres.dir" ]; then dir=$(cat "$run/postgres.dir"); fi
    printf '%s\n' "$dir"
}

postgres_alive() {
    daemon_pid postgres >/dev/null && [ -x "$pg_bin/pg_isready" ] && "$pg_bin/pg_isready" -q -h 127.0.0.1 -p "$pg_port"
}

postgres_up() {
    if postgres_alive; then return; fi
    daemon_stop postgres INT 15
    [ -x "$pg_bin/postgres" ] || need_packages postgresql-15
    if port_taken "$pg_port"; then
        die "port $pg_port is taken by somebody else; choose another with FLOW_SANDBOX_PG_PORT"
    fi
    local dir
    dir=$(postgres_dir)
    if [ ! -f "$dir/data/PG_VERSION" ]; then
        postgres_create
        dir=$(postgres_dir)
    fi
    rm -f "$dir/data/postmaster.pid"
    # A sandbox may lose its data in a power cut; it may not wait for the disk.
    daemon_start postgres "${as_postgres[@]}" "$pg_bin/postgres" -D "$dir/data" -k "$dir" -h 127.0.0.1 -p "$pg_port" \
        -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200
    wait_for_daemon postgres 30 postgres_alive || die_with_log "PostgreSQL does not come up" "$log/postgres.log"
    if [ -z "$(postgres_sql "select 1 from pg_database where datname = 'shop'")" ]; then postgres_empty; fi
}

postgres_create() {
    local dir=$home/postgres
    rm -rf "$dir" "$run/postgres.dir"
    mkdir -p "$dir"
    if [ "$(id -u)" = 0 ]; then
        chown postgres: "$dir"
        if ! "${as_postgres[@]}" test -w "$dir"; then
            rmdir "$dir"
            dir=$(mktemp -d /var/tmp/flow-sandbox-postgres.XXXXXX)
            chown postgres: "$dir"
        fi
    fi
    chmod 700 "$dir"
    printf '%s\n' "$dir" >"$run/postgres.dir"
    printf 'flow\n' >"$dir/password"
    chmod 644 "$dir/password"
    (cd / && "${as_postgres[@]}" "$pg_bin/initdb" -D "$dir/data" -U flow -E UTF8 --locale=C.UTF-8 --no-sync \
        --auth-local=trust --auth-host=scram-sha-256 --pwfile="$dir/password") >"$log/initdb.log" 2>&1 ||
        die_with_log "initdb failed" "$log/initdb.log"
}

# SQL…: each statement by itself, because a database cannot be made inside a transaction.
postgres_sql() {
    local words=() statement
    for statement; do words+=(-c "$statement"); done
    PGPASSWORD=flow PGOPTIONS='-c client_min_messages=warning' "$pg_bin/psql" -XqAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$pg_port" -U flow -d postgres "${words[@]}"
}

postgres_empty() {
    postgres_sql "drop database if exists shop with (force)" "create database shop" ||
        die_with_log "the database could not be emptied" "$log/postgres.log"
}

# Without its AWS the data means nothing: the folder goes too, above all the one below /var/tmp.
postgres_down() {
    daemon_stop postgres INT 15
    case $(postgres_dir) in
    "$home/postgres" | /var/tmp/flow-sandbox-postgres.*) rm -rf "$(postgres_dir)" ;;
    esac
    rm -f "$run/postgres.dir"
}

postgres_status() {
    if ! postgres_alive; then
        echo "postgres  down"
        return 1
    fi
    echo "postgres  up    $(postgres_url)   $("$pg_bin/postgres" --version | cut -d' ' -f3), pid $(daemon_pid postgres)"
}
