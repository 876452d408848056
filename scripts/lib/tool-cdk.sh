# shellcheck shell=bash
# shellcheck disable=SC2154 # tools_home, tools_bin, say, skip_tool: sandbox-tools.sh
# The CDK: its command line and library for Node, and the library for apps in Python.
# The programs get an entry each in the tools' folder: cdk, and cdk-python, a Python that has the
# library. Node finds the library through the folder that cdk-modules links to.

tools+=(cdk)
cdk_pins=${here:?}/../tests/support/cdk

cdk_install() {
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        skip_tool cdk "it needs node and npm"
        return 0
    fi
    cdk_install_node && cdk_install_python
}

cdk_install_node() {
    local home
    home=$tools_home/cdk-$(cat "$cdk_pins/package.json" "$cdk_pins/package-lock.json" | sha256sum | cut -c1-12)
    if [ ! -e "$home/.done" ]; then
        say "installing the CDK into $home"
        rm -rf "$home"
        mkdir -p "$home"
        cp "$cdk_pins/package.json" "$cdk_pins/package-lock.json" "$home"
        (cd "$home" && npm ci --no-audit --no-fund --ignore-scripts) >"$home/npm.log" 2>&1 ||
            die_with_log "npm could not install the pinned packages of the CDK" "$home/npm.log"
        touch "$home/.done"
    fi
    ln -sfn "$home/node_modules/aws-cdk/bin/cdk" "$tools_bin/cdk"
    ln -sfn "$home/node_modules" "$tools_bin/cdk-modules"
}

cdk_install_python() {
    local home python
    if ! python=$(aws_python); then
        skip_tool cdk-python "it needs Python 3.10 or newer with its venv module"
        return 0
    fi
    home=$tools_home/cdk-python-$(sha256sum "$cdk_pins/requirements.txt" | cut -c1-12)
    if [ ! -e "$home/.done" ]; then
        say "installing the CDK's library for Python into $home"
        if ! { "$python" -m venv --clear "$home" &&
            "$home/bin/python" -m pip --disable-pip-version-check install -q -r "$cdk_pins/requirements.txt"; } \
            >"$tools_home/cdk-python.log" 2>&1; then
            rm -rf "$home"
            die_with_log "pip could not install the CDK's library" "$tools_home/cdk-python.log"
        fi
        touch "$home/.done"
    fi
    # Not a link: a Python started through one finds the packages of another place.
    printf '#!/bin/sh\nexec %q "$@"\n' "$home/bin/python" >"$tools_bin/cdk-python"
    chmod 755 "$tools_bin/cdk-python"
}
