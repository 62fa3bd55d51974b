#!/bin/sh
# Makes generated/ from proto/: ts-proto stubs, and descriptors.binpb, a FileDescriptorSet with all imports that reflection
# and validation read. Needs only what `npm ci --ignore-scripts` brings, and no network.
#   scripts/generate.sh           writes generated/
#   scripts/generate.sh --check   writes nothing; exit status 1 and a diff when generated/ is not what proto/ gives
set -eu

cd "$(dirname "$0")/.."
PATH="$PWD/node_modules/.bin:$PATH"
export PATH

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT HUP INT TERM

buf generate --output "$fresh"

# The types of proto options. Options are read from descriptors.binpb, and nothing imports these nine thousand lines.
rm -r "$fresh/generated/google/api" "$fresh/generated/google/protobuf/descriptor.ts"

# Health and reflection are served beside our own services, so reflection has to know them too.
buf build . \
  --path proto/obraz --path proto/yandex \
  --path node_modules/grpc-health-check/proto/health \
  --path node_modules/@grpc/reflection/build/proto/grpc \
  --as-file-descriptor-set --exclude-source-info \
  --output "$fresh/generated/descriptors.binpb"

case "${1:-}" in
  --check)
    if diff -r -q generated "$fresh/generated"; then exit 0; fi
    echo 'generated/ is stale: run npm run generate and commit the result' >&2
    exit 1
    ;;
  '')
    rm -rf generated
    mv "$fresh/generated" generated
    ;;
  *)
    echo "usage: scripts/generate.sh [--check]" >&2
    exit 2
    ;;
esac
