# shellcheck shell=bash
# shellcheck disable=SC2154 # tools_home, tools_bin, say, skip_tool: sandbox-tools.sh
# Pulumi's command line, its host for programs in YAML and the provider of the tests, built from
# pinned Go modules: minutes the first time, once per machine.

tools+=(pulumi)
pulumi_modules=${here:?}/../tests/support/pulumi

pulumi_install() {
    local home program
    if ! command -v go >/dev/null; then
        skip_tool pulumi "it needs go"
        return 0
    fi
    home=$tools_home/pulumi-$(cd "$pulumi_modules" && cat ./*/go.mod ./*/go.sum ./*/*.go | sha256sum | cut -c1-12)
    if [ ! -e "$home/.done" ]; then
        say "building Pulumi into $home; this takes some minutes"
        rm -rf "$home"
        mkdir -p "$home"
        pulumi_build cli "$home/pulumi" github.com/pulumi/pulumi/pkg/v3/cmd/pulumi \
            github.com/pulumi/pulumi/sdk/v3 github.com/pulumi/pulumi/sdk/v3/go/common/version.Version
        pulumi_build yaml "$home/pulumi-language-yaml" github.com/pulumi/pulumi-yaml/cmd/pulumi-language-yaml \
            github.com/pulumi/pulumi-yaml github.com/pulumi/pulumi-yaml/pkg/version.Version
        pulumi_build provider "$home/pulumi-resource-sandbox" .
        touch "$home/.done"
    fi
    for program in pulumi pulumi-language-yaml pulumi-resource-sandbox; do
        ln -sfn "$home/$program" "$tools_bin/$program"
    done
}

# pulumi_build FOLDER PROGRAM PACKAGE [MODULE VARIABLE]: the variable gets the module's version.
pulumi_build() {
    (
        cd "$pulumi_modules/$1" || exit
        export GOFLAGS=-mod=readonly
        flags="-s -w"
        if [ -n "${4:-}" ]; then
            version=$(go list -m -f '{{.Version}}' "$4") || exit
            flags="$flags -X $5=$version"
        fi
        go build -trimpath -ldflags "$flags" -o "$2" "$3"
    ) >"$home/build.log" 2>&1 || die_with_log "Pulumi could not be built" "$home/build.log"
}
