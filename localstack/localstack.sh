#!/usr/bin/env bash
# LocalStack's S3 on this machine, without Docker and without an account: `localstack/localstack.sh --help`.
name=localstack
default_port=4566
least_tools=python3
process=localstack.runtime.main
# shellcheck source=localstack/server.sh
. "$(dirname "${BASH_SOURCE[0]}")/server.sh"

prepare() { installed "$tools/localstack" "$(pins localstack)"; }

install() {
    # Word splitting wanted: one requirement a word.
    # shellcheck disable=SC2046
    python3 -m venv "$1/venv" && "$1/venv/bin/pip" install --quiet $(pins localstack)
}

# Keeps what is stored only while it runs. It looks for a module named moto in the working folder, hence one of its own.
serve() {
    mkdir -p "$folder/run" && cd "$folder/run"
    SERVICES=s3 EAGER_SERVICE_LOADING=1 STRICT_SERVICE_LOADING=1 SKIP_SSL_CERT_DOWNLOAD=1 DISABLE_EVENTS=1 \
        GATEWAY_LISTEN=127.0.0.1:$port FILESYSTEM_ROOT=$folder/data LS_LOG=warning \
        exec "$tools/localstack/venv/bin/python" -m localstack.runtime.main
}

ready() { curl --silent --fail --max-time 2 "$endpoint/_localstack/health" | grep -q '"s3": *"running"'; }

main "$@"
