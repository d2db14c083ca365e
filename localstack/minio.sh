#!/usr/bin/env bash
# MinIO on this machine, without Docker: `localstack/minio.sh --help`.
name=minio
default_port=9000
least_tools=go
process=minio
# shellcheck source=localstack/server.sh
. "$(dirname "${BASH_SOURCE[0]}")/server.sh"

prepare() { installed "$tools/minio" "$(pin minio)"; }

# Its makers publish source only. Takes two to three minutes on two cores.
install() { GOBIN=$1 "$root/xtask/go.sh" install "github.com/minio/minio@$(pin minio)"; }

serve() {
    MINIO_ROOT_USER=$AWS_ACCESS_KEY_ID MINIO_ROOT_PASSWORD=$AWS_SECRET_ACCESS_KEY MINIO_BROWSER=off MINIO_UPDATE=off \
        exec "$tools/minio/minio" server --quiet --address "127.0.0.1:$port" "$folder/data"
}

ready() { curl --silent --fail --max-time 2 "$endpoint/minio/health/ready" >/dev/null; }

main "$@"
