# shellcheck shell=bash
# shellcheck disable=SC2154 # tools_home, tools_bin, say, skip_tool: sandbox-tools.sh
# A second stand-in for AWS, for what the sandbox's own does not have: restoring a database to a point
# in time, and sharing a snapshot with another account. A test starts its server itself.

moto_pins=('moto[server]==5.2.*')
tools+=(moto)

moto_install() {
    local pins folder
    pins=$(printf '%s\n' "${moto_pins[@]}" | sha256sum | cut -c1-12)
    folder=$tools_home/moto-$pins
    if [ ! -x "$folder/bin/moto_server" ]; then
        if ! command -v python3 >/dev/null; then
            skip_tool moto "there is no python3"
            return 0
        fi
        say "installing moto"
        rm -rf "$folder"
        if ! { python3 -m venv "$folder.new" && "$folder.new/bin/pip" install --quiet --disable-pip-version-check "${moto_pins[@]}"; } >"$tools_home/moto.log" 2>&1; then
            skip_tool moto "it could not be installed: $tools_home/moto.log"
            rm -rf "$folder.new"
            return 0
        fi
        # A venv knows its own place: made anew there, without asking the registry again.
        mv "$folder.new" "$folder"
        find "$folder/bin" -maxdepth 1 -type f -exec sed -i "1s|$folder.new|$folder|" {} +
    fi
    ln -sfn "$folder/bin/moto_server" "$tools_bin/moto_server"
}
