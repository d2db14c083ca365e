# Shared by minio.sh and localstack.sh, which define: name, default_port, least_tools, install, serve, ready.
#
# The server runs as a child of the script (or of nobody, with --detach), listens on loopback only, and is ended by the
# process id in its own folder, after a look that the id still is that server. Everything lies under one folder: data, log, pid.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${XTASK_TOOLS:-$root/target/tools}
export AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-aquifer}
export AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-aquifer-secret}
region=us-east-1

say() { printf '%s\n' "$*" >&2; }
die() { say "$name: $*"; exit 1; }

# The value of a pin, or each item of a pinned array.
pin() { sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" "$root/xtask/pins.toml"; }
pins() { sed -n "/^$1 = \[\$/,/^\]\$/s/^ *\"\(.*\)\",\$/\1/p" "$root/xtask/pins.toml"; }

# Runs `install` unless the tool stands there already, made from the same pin. (Its steps are chained with &&: a function
# whose failure is looked at runs without `set -e`.)
installed() {
    local folder=$1 want=$2
    if [ "$(cat "$folder/.pin" 2>/dev/null)" = "$want" ]; then return; fi
    for tool in $least_tools; do
        command -v "$tool" >/dev/null || die "needs $tool to install itself; please install it"
    done
    say "$name: installing into $folder (once)"
    rm -rf "$folder"
    mkdir -p "$folder"
    install "$folder" >"$folder/install.log" 2>&1 || { tail -n 20 "$folder/install.log" >&2; die "could not be installed"; }
    printf '%s' "$want" >"$folder/.pin"
}

s3() {
    curl --silent --show-error --max-time 20 --aws-sigv4 "aws:amz:$region:s3" \
        --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$@"
}

create_bucket() {
    local status
    # 503: it says that it is ready a little before it is.
    for _ in $(seq 100); do
        status=$(s3 --output "$folder/bucket.answer" --write-out '%{http_code}' -X PUT "$endpoint/$bucket")
        [ "$status" = 503 ] || break
        sleep 0.1
    done
    case $status in
        200) ;;
        409) ;; # There already, ours: the folder is.
        *) die "creating bucket '$bucket' was answered $status: $(cat "$folder/bucket.answer")" ;;
    esac
}

# Whether the id on file is still this server: ids are reused.
alive() { [ -s "$folder/pid" ] && tr '\0' ' ' <"/proc/$(cat "$folder/pid")/cmdline" 2>/dev/null | grep -q "$process"; }

stop() {
    if ! alive; then
        rm -f "$folder/pid"
        return
    fi
    local pid
    pid=$(cat "$folder/pid")
    kill "$pid"
    rm -f "$folder/pid"
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    say "$name: still there 10 s after SIGTERM: killing $pid"
    kill -9 "$pid"
}

usage() {
    cat >&2 <<TEXT
usage: ${0##*/} [--port $default_port] [--bucket aquifer] [--folder target/localstack/$name] [--detach | --stop | --install]
  Starts $name on 127.0.0.1, creates the bucket, prints what to export, and stays until Ctrl-C.
  --detach   leave it running, and return     --stop   end a detached one (its data stays)
  --install  only install it
  Keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY if set, else aquifer / aquifer-secret.
TEXT
    exit 2
}

main() {
    port=$default_port bucket=aquifer folder=$root/target/localstack/$name what=stay
    while [ $# -gt 0 ]; do
        case $1 in
            --port | --bucket | --folder)
                [ $# -ge 2 ] || usage
                printf -v "${1#--}" '%s' "$2"
                shift 2
                ;;
            --detach | --stop | --install) what=${1#--} && shift ;;
            *) usage ;;
        esac
    done
    mkdir -p "$folder"
    folder=$(cd "$folder" && pwd)
    endpoint=http://127.0.0.1:$port
    [ "$what" = stop ] && { stop; return; }
    prepare
    [ "$what" = install ] && return
    command -v curl >/dev/null || die "needs curl to create the bucket; please install it"
    alive && die "runs already as process $(cat "$folder/pid") (in $folder); end it with --stop"
    # A server of somebody else on this port would answer in place of ours.
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && die "port $port is in use; choose another with --port"

    mkdir -p "$folder/data"
    # However this goes wrong, the server goes with it; a detached one outlives only a script that ended well.
    trap stop EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    [ "$what" = detach ] && trap '' HUP
    serve </dev/null >"$folder/log" 2>&1 &
    local pid=$!
    echo "$pid" >"$folder/pid"
    for _ in $(seq 600); do
        ready && break
        kill -0 "$pid" 2>/dev/null || { tail -n 20 "$folder/log" >&2; die "did not start; its log is $folder/log"; }
        sleep 0.1
    done
    ready || die "not ready after 60 s; its log is $folder/log"
    create_bucket
    cat <<TEXT
export AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID
export AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY
export OBJECT_STORE_URL='s3://$bucket?endpoint=$endpoint&region=$region&allow_http=true'
# then: aquifer dev --object-store "\$OBJECT_STORE_URL"
TEXT
    if [ "$what" = detach ]; then
        trap - EXIT
        return
    fi
    say "$name: ready; its log is $folder/log; Ctrl-C ends it"
    wait "$pid" || die "ended by itself; its log is $folder/log"
}
