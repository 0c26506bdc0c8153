#!/bin/sh
# Makes what docker-compose.yml needs beside itself, once: the folder secrets/
# (passwords, tokens, a CA and a certificate for each tier) and .env, which
# names the user who may read them. What is there already is kept.
#
#   sh deploy/secrets.sh
set -eu
umask 077
dir=${1:-secrets}
mkdir -p "$dir"

new() { # file, command that prints a secret
	file=$dir/$1
	shift
	[ -s "$file" ] || "$@" >"$file"
}
bits() { openssl rand -hex 16; }

for name in nats.token nats.route postgres.password s3.access s3.secret admin.token worker.token; do
	new "$name" bits
done
new secret.key openssl rand -base64 32 # without it what is sealed in the database is lost
new postgres.url printf 'postgres://tintype:%s@postgres:5432/tintype?sslmode=disable\n' "$(cat "$dir/postgres.password")"
token=$(cat "$dir/nats.token") route=$(cat "$dir/nats.route")
new nats.url printf 'nats://%s@nats1:4222,nats://%s@nats2:4222,nats://%s@nats3:4222\n' "$token" "$token" "$token"

nats_conf() {
	cat <<-END
		server_name: \$NATS_NAME
		listen: 0.0.0.0:4222
		http: 127.0.0.1:8222
		authorization { token: "$token" }
		max_payload: 1MB
		jetstream {
		  store_dir: /data
		  max_file_store: 8GB
		  sync_interval: always
		}
		cluster {
		  name: tintype
		  listen: 0.0.0.0:6222
		  authorization { user: route, password: "$route", timeout: 2 }
		  routes: [ "nats://route:$route@nats1:6222", "nats://route:$route@nats2:6222", "nats://route:$route@nats3:6222" ]
		}
	END
}
new nats.conf nats_conf

quiet() { openssl "$@" 2>"$dir/openssl.log" || { cat "$dir/openssl.log" >&2; exit 1; }; }
if [ ! -s "$dir/ca.crt" ]; then
	quiet req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=tintype CA' \
		-keyout "$dir/ca.key" -out "$dir/ca.crt"
fi
for name in scheduler1 scheduler2 api worker; do
	[ ! -s "$dir/$name.crt" ] || continue
	printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$name" >"$dir/ext"
	quiet req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$dir/$name.key" -out "$dir/$name.csr"
	quiet x509 -req -in "$dir/$name.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -CAcreateserial -days 365 \
		-extfile "$dir/ext" -out "$dir/$name.crt"
done
rm -f "$dir/ext" "$dir/openssl.log" "$dir"/*.csr

[ -s .env ] || printf 'FARM_UID=%s\nFARM_GID=%s\n' "$(id -u)" "$(id -g)" >.env
echo "made in $dir; keep $dir/ca.key elsewhere, it is needed for renewals alone"
