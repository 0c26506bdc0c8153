#!/bin/sh
# Installs, with apt, what Tintype needs of the system and is missing:
#
#   sh deploy/install.sh         to run: Chromium, Postgres, fonts, certificates
#   sh deploy/install.sh test    to run and to test: also poppler-utils, protoc, gcc
#
# It prints nothing when nothing is missing. As a plain user it installs nothing:
# it prints the one line to run, and exits 1.
#
# Debian's postgresql starts a cluster of its own on port 5432. Tintype brings up
# a private one, so that is switched off, unless postgresql was there before us.
set -eu

dropin=/etc/postgresql-common/createcluster.d/10-tintype.conf

fail() {
	printf 'deploy/install.sh: %s\n' "$*" >&2
	exit 1
}

installed() {
	# shellcheck disable=SC2016 # ${…} is dpkg-query's own
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# A server of any version will do; the package named postgresql only asks for one.
have_postgres() {
	for bin in /usr/lib/postgresql/*/bin; do
		[ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && return 0
	done
	return 1
}

case ${1-} in
'' | test) ;;
*) fail "unknown argument '$1': it is empty or 'test'" ;;
esac

packages="ca-certificates chromium-headless-shell fontconfig fonts-dejavu-core fonts-noto-cjk fonts-noto-color-emoji fonts-noto-core"
if [ "${1-}" = test ]; then
	# -race needs a C compiler and the C library's headers.
	packages="$packages gcc libc6-dev poppler-utils protobuf-compiler"
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	fail "this system has no apt. Install by hand: chromium-headless-shell (or Chromium's headless shell)," \
		"the PostgreSQL server 15 or newer, CA certificates, and the fonts DejaVu and Noto with CJK and" \
		"colour emoji${1:+; for the tests also gcc, the C headers, protoc and poppler-utils}."
fi

missing=
for package in $packages; do
	installed "$package" || missing="$missing $package"
done
postgres=
have_postgres || postgres=postgresql
missing="$missing${postgres:+ $postgres}"
missing=${missing# }
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	line="sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing"
	if [ -n "$postgres" ]; then
		line="sudo mkdir -p ${dropin%/*} && echo 'create_main_cluster = false' | sudo tee $dropin >/dev/null && $line"
	fi
	echo "$line"
	exit 1
fi

if [ -n "$postgres" ]; then
	mkdir -p "${dropin%/*}"
	echo 'create_main_cluster = false' >"$dropin"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
# $missing is a list of words.
# shellcheck disable=SC2086
apt-get install -y --no-install-recommends $missing
