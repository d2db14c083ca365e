#!/usr/bin/env bash
# Runs a Go that is new enough: the system's, or the pinned toolchain, fetched once as the Go module that it also is.
# (Debian 12 ships 1.19, which cannot replace itself.)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${XTASK_TOOLS:-$root/target/tools}
pin() { sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" "$root/xtask/pins.toml"; }

command -v go >/dev/null || { echo "go.sh: needs go, any version; please install it" >&2; exit 1; }
least=$(pin go_least)
found=$(go env GOVERSION)
if [ "$(printf '%s\n' "$least" "${found#go}" | sort -V | head -n 1)" = "$least" ] && [ -z "${GO_SH_PINNED:-}" ]; then
    exec go "$@"
fi

version=$(pin go_toolchain)
home=$tools/go-$version
if [ ! -x "$home/bin/go" ]; then
    module=golang.org/toolchain@v0.0.1-go$version.$(go env GOOS)-$(go env GOARCH)
    echo "go.sh: the system's Go is ${found#go}, older than $least: fetching $version (once)" >&2
    folder=$(cd / && GO111MODULE=on GOFLAGS= go mod download -json "$module" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    [ -n "$folder" ] || { echo "go.sh: no folder for $module" >&2; exit 1; }
    rm -rf "$home.new"
    mkdir -p "$tools"
    cp -r "$folder" "$home.new"
    # A module's files carry no modes, and no nested go.mod: `go` itself does the same two steps.
    chmod -R u+w "$home.new"
    chmod +x "$home.new"/bin/* "$home.new"/pkg/tool/*/*
    find "$home.new" -name _go.mod -execdir mv _go.mod go.mod ';'
    mv "$home.new" "$home"
fi
unset GOROOT
PATH=$home/bin:$PATH GOTOOLCHAIN=local exec "$home/bin/go" "$@"
