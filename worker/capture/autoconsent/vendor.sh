#!/bin/sh
# Fetches autoconsent.standalone.js anew from the npm package
# @duckduckgo/autoconsent, and its licence. Needs npm. README.md names the same
# version and digest. Usage: sh worker/capture/autoconsent/vendor.sh
set -eu
version=16.23.0
sum=4abcd03523a52e015317baee2ba06460bc2e55989304f035b637ed4480840e22

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "@duckduckgo/autoconsent@$version" >/dev/null
tar xzf "duckduckgo-autoconsent-$version.tgz" package/dist/autoconsent.standalone.js package/LICENSE
echo "$sum  package/dist/autoconsent.standalone.js" | sha256sum -c --quiet
cp package/dist/autoconsent.standalone.js package/LICENSE "$here/"
