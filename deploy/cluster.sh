#!/bin/sh
# Runs a whole cluster on this machine and renders a picture through it:
#
#   3 NATS servers     JetStream with three copies, synced at every write
#   1 Postgres, 1 S3   the embedded ones, by `tintype backends`
#   2 schedulers       one leads, one stands by
#   2 API replicas, 2 workers
#
# with mutual TLS between the tiers. Everything is on loopback; Ctrl-C stops all
# of it, by pid, in the order in which a cluster is stopped.
#
#   BIN=bin/tintype NATS=.tmp/nats-server sh deploy/cluster.sh
#
# CLUSTER_DATA  folder of all data, kept between runs  (/var/lib/tintype-cluster,
#               else ~/.local/share/tintype-cluster)
# CLUSTER_PORT  first of the 60 ports used             (18000)
# CLUSTER_ONCE  not empty: stop after the picture
set -eu
umask 077

BIN=${BIN:-bin/tintype}
NATS=${NATS:-.tmp/nats-server}
base=${CLUSTER_PORT:-18000}
if [ "$(id -u)" -eq 0 ]; then
	dir=${CLUSTER_DATA:-/var/lib/tintype-cluster}
else
	dir=${CLUSTER_DATA:-$HOME/.local/share/tintype-cluster}
fi

say() { printf '%s\n' "$*" >&2; }

fail() {
	say "cluster: $*"
	exit 1
}

for program in "$BIN" "$NATS"; do
	[ -x "$program" ] || fail "there is no $program; run: make cluster"
done
command -v openssl >/dev/null || fail "openssl is missing: apt-get install openssl"
# setsid keeps Ctrl-C from the parts: it is this script that stops them, in order.
command -v setsid >/dev/null || fail "setsid is missing: apt-get install util-linux"

# Postgres and Chromium run as users of their own and must be able to pass.
mkdir -p "$dir"
chmod 711 "$dir"
mkdir -p "$dir/log" "$dir/tls" "$dir/nats" "$dir/secret" "$dir/pid"
case $dir in /*) ;; *) dir=$(pwd)/$dir ;; esac

for file in "$dir"/pid/*; do
	[ -e "$file" ] || continue
	pid=$(cat "$file")
	if kill -0 "$pid" 2>/dev/null; then
		fail "${file##*/} of an earlier cluster still runs in $dir, process $pid: stop it with kill $pid"
	fi
	rm -f "$file"
done

# --- stop -------------------------------------------------------------------

stopping=
wait_gone() { # pid, seconds
	tries=0
	while kill -0 "$1" 2>/dev/null && [ "$tries" -lt $(($2 * 10)) ]; do
		sleep 0.1
		tries=$((tries + 1))
	done
	! kill -0 "$1" 2>/dev/null
}

stop() { # names, stopped together
	for name in "$@"; do
		[ -e "$dir/pid/$name" ] && kill -TERM "$(cat "$dir/pid/$name")" 2>/dev/null || true
	done
	for name in "$@"; do
		[ -e "$dir/pid/$name" ] || continue
		pid=$(cat "$dir/pid/$name")
		if ! wait_gone "$pid" 90; then
			say "cluster: $name did not stop in 90 s and is killed; see $dir/log/$name.log"
			kill -KILL "$pid" 2>/dev/null || true
		fi
		wait "$pid" 2>/dev/null || true
		rm -f "$dir/pid/$name"
	done
}

finish() {
	code=$?
	[ -z "$stopping" ] || return 0
	stopping=yes
	trap '' INT TERM
	say ""
	say "cluster: stopping"
	stop worker1 worker2
	stop api1 api2
	stop scheduler1 scheduler2
	stop stores
	stop nats1 nats2 nats3
	say "cluster: stopped; the data is in $dir"
	exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- start ------------------------------------------------------------------

start() { # name, then the command
	name=$1
	shift
	setsid "$@" >"$dir/log/$name.log" 2>&1 </dev/null &
	printf '%s\n' $! >"$dir/pid/$name"
}

alive() { # name
	kill -0 "$(cat "$dir/pid/$1")" 2>/dev/null || {
		tail -n 5 "$dir/log/$1.log" >&2
		fail "$1 has ended; its whole log is $dir/log/$1.log"
	}
}

until_true() { # name of a part that is to live meanwhile, then a command
	part=$1
	shift
	tries=0
	until "$@" >/dev/null 2>&1; do
		alive "$part"
		tries=$((tries + 1))
		[ "$tries" -lt 300 ] || fail "$part was not ready within a minute; see $dir/log/$part.log"
		sleep 0.2
	done
}

healthy() { until_true "$1" "$BIN" healthcheck --server "http://127.0.0.1:$2"; } # name, port

secret() { # file; 128 random bits
	[ -s "$dir/secret/$1" ] || openssl rand -hex 16 >"$dir/secret/$1"
	cat "$dir/secret/$1"
}

say "cluster: 3 NATS servers"
token=$(secret nats.token)
route=$(secret nats.route)
routes=
urls=
for n in 1 2 3; do
	routes="$routes${routes:+, }\"nats://route:$route@127.0.0.1:$((base + 40 + n))\""
	urls="$urls${urls:+,}nats://$token@127.0.0.1:$((base + 30 + n))"
done
for n in 1 2 3; do
	# The file holds the secrets: a command line is everybody's to read.
	cat >"$dir/nats/n$n.conf" <<-END
		server_name: n$n
		listen: 127.0.0.1:$((base + 30 + n))
		authorization { token: "$token" }
		max_payload: 1MB
		jetstream {
		  store_dir: "$dir/nats/n$n"
		  max_file_store: 8GB
		  sync_interval: always
		}
		cluster {
		  name: tintype
		  listen: 127.0.0.1:$((base + 40 + n))
		  authorization { user: route, password: "$route", timeout: 2 }
		  routes: [ $routes ]
		}
	END
	start "nats$n" "$NATS" -c "$dir/nats/n$n.conf"
done
for n in 1 2 3; do
	until_true "nats$n" grep -q 'JetStream cluster .*metadata leader' "$dir/log/nats$n.log"
done
printf '%s\n' "$urls" >"$dir/secret/nats.url"

say "cluster: Postgres and S3"
start stores env TINTYPE_NATS_URL_FILE="$dir/secret/nats.url" "$BIN" backends --data "$dir/stores" \
	--postgres-listen "127.0.0.1:$((base + 51))" --s3-listen "127.0.0.1:$((base + 52))" --admin-listen "127.0.0.1:$((base + 27))"
healthy stores $((base + 27))
until_true stores test -s "$dir/stores/backends.env"

# The CA signs for this cluster alone. On several machines its key stays off them.
openssl_quiet() { openssl "$@" 2>>"$dir/log/openssl.log" || fail "openssl failed; see $dir/log/openssl.log"; }
if [ ! -s "$dir/tls/ca.crt" ]; then
	openssl_quiet req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=tintype cluster CA' \
		-keyout "$dir/tls/ca.key" -out "$dir/tls/ca.crt"
fi
printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n' >"$dir/tls/ext"
for name in scheduler1 scheduler2 api1 api2 worker1 worker2; do
	openssl_quiet req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
		-keyout "$dir/tls/$name.key" -out "$dir/tls/$name.csr"
	openssl_quiet x509 -req -in "$dir/tls/$name.csr" -CA "$dir/tls/ca.crt" -CAkey "$dir/tls/ca.key" -CAcreateserial -days 90 \
		-extfile "$dir/tls/ext" -out "$dir/tls/$name.crt"
done
tls() { printf '%s\n' "--grpc-cert=$dir/tls/$1.crt" "--grpc-key=$dir/tls/$1.key" "--grpc-ca=$dir/tls/ca.crt"; }

# tier runs a mode that may reach the stores, with the files that lead there.
tier() {
	name=$1
	shift
	# shellcheck disable=SC2046 # paths of ours, without spaces: checked below
	(
		set -a
		# shellcheck disable=SC1091 # written by backends
		. "$dir/stores/backends.env"
		set +a
		exec setsid "$BIN" "$@" $(tls "$name") >"$dir/log/$name.log" 2>&1 </dev/null
	) &
	printf '%s\n' $! >"$dir/pid/$name"
}
case $dir in *[[:space:]]*) fail "CLUSTER_DATA must have no spaces: $dir" ;; esac

say "cluster: 2 schedulers, 2 API replicas, 2 workers"
(
	set -a
	# shellcheck disable=SC1091
	. "$dir/stores/backends.env"
	set +a
	"$BIN" migrate >"$dir/log/migrate.log" 2>&1
) || fail "the migration failed; see $dir/log/migrate.log"
schedulers=127.0.0.1:$((base + 11)),127.0.0.1:$((base + 12))
for n in 1 2; do
	tier "scheduler$n" scheduler --cluster-listen "127.0.0.1:$((base + 10 + n))" --admin-listen "127.0.0.1:$((base + 20 + n))"
	tier "api$n" api --listen "127.0.0.1:$((base + n))"
	# A worker is told nothing of the stores: it runs strangers' pages.
	# shellcheck disable=SC2046
	start "worker$n" env -i PATH="$PATH" ${TMPDIR:+TMPDIR="$TMPDIR"} "$BIN" worker --name "worker$n" --seats 1 --scheduler "$schedulers" \
		--worker-token-file "$dir/stores/worker.token" --admin-listen "127.0.0.1:$((base + 22 + n))" $(tls "worker$n")
done
for n in 1 2; do
	healthy "scheduler$n" $((base + 20 + n))
	healthy "api$n" $((base + n))
	healthy "worker$n" $((base + 22 + n))
done

# --- a picture --------------------------------------------------------------

key=$dir/secret/first.key
if [ ! -s "$key" ]; then
	"$BIN" account create first --data "$dir/stores" --server "http://127.0.0.1:$((base + 1))" >"$key.new" 2>"$dir/log/account.log" ||
		fail "no account could be made; see $dir/log/account.log"
	mv "$key.new" "$key"
fi
picture=$dir/cluster.png
printf '<h1 style="font: 64px serif">Tintype, in ten processes</h1><p>%s' "$(date -u)" |
	env TINTYPE_KEY_FILE="$key" "$BIN" shot --html - -o "$picture" --server "http://127.0.0.1:$((base + 2))" >&2 ||
	fail "the picture could not be made; the logs are in $dir/log"

show() { printf '  %-11s pid %-8s %s\n' "$1" "$(cat "$dir/pid/$1")" "$2"; }
cat <<END

The cluster is ready.

$(for n in 1 2 3; do show "nats$n" "nats://127.0.0.1:$((base + 30 + n))"; done)
$(show stores "Postgres 127.0.0.1:$((base + 51)), S3 http://127.0.0.1:$((base + 52))")
$(for n in 1 2; do show "scheduler$n" "gRPC 127.0.0.1:$((base + 10 + n)), metrics http://127.0.0.1:$((base + 20 + n))/metrics"; done)
$(for n in 1 2; do show "api$n" "http://127.0.0.1:$((base + n))"; done)
$(for n in 1 2; do show "worker$n" "metrics http://127.0.0.1:$((base + 22 + n))/metrics"; done)
  data        $dir (logs in $dir/log)
  rendered    $picture

Take a picture:

  curl --fail-with-body -sS -H "Authorization: Bearer \$(cat $key)" -o shot.png \\
    'http://127.0.0.1:$((base + 1))/v1/screenshot?url=https://example.com'

Kill a NATS server, a scheduler, an API replica or a worker, and the rest goes on.
Ctrl-C stops all.
END
[ -z "${CLUSTER_ONCE:-}" ] || exit 0
while :; do
	sleep 1 &
	wait $! || true
	for file in "$dir"/pid/*; do
		name=${file##*/}
		if ! kill -0 "$(cat "$file")" 2>/dev/null; then
			say "cluster: $name has ended"
			rm -f "$file"
		fi
	done
done
