# shellcheck shell=bash
# shellcheck disable=SC2154 # tools_home, tools_bin, say, skip_tool: sandbox-tools.sh
# The SAM CLI, in a Python environment of its own.

tools+=(sam)
sam_version=1.170.0

sam_install() {
    local python home=$tools_home/sam-$sam_version
    if ! python=$(aws_python); then
        skip_tool sam "it needs Python 3.10 or newer with its venv module"
        return 0
    fi
    if [ ! -e "$home/.done" ]; then
        say "installing the SAM CLI into $home"
        if ! { "$python" -m venv --clear "$home" &&
            "$home/bin/python" -m pip --disable-pip-version-check install -q "aws-sam-cli==$sam_version"; } \
            >"$tools_home/sam.log" 2>&1; then
            rm -rf "$home"
            die_with_log "pip could not install the SAM CLI" "$tools_home/sam.log"
        fi
        touch "$home/.done"
    fi
    ln -sfn "$home/bin/sam" "$tools_bin/sam"
}
