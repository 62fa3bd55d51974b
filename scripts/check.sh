#!/bin/sh
# The one check: generated code is fresh, types, lint with the direction of imports, format, entities and migrations agree, the table of roles,
# the wire contract. Run by `npm run check` and before the tests in CI.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/node_modules/.bin:$PATH"

step() { printf '%s\n' "check: $*" >&2; "$@"; }

step sh scripts/generate.sh --check
step tsc -p .
step oxlint --type-aware --deny-warnings src test scripts
step oxfmt --check
step buf lint
step node scripts/check-migrations.ts
step node scripts/access-doc.ts --check
if [ -x ../shared/contract/check ]; then step ../shared/contract/check; else echo 'check: SKIPPED ../shared/contract/check: it is not there' >&2; fi
echo 'check: everything holds' >&2
