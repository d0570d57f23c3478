# SPDX-License-Identifier: Apache-2.0
# What the parts of the demo share; sourced. Everything that is started is stopped at the end.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
bin=${HBONE_BIN:?path of the program; ./dev demo sets it}
keep=
[ "${1:-}" != --keep ] || keep=1
dir=$(mktemp -d)
pids=()

finish() {
	local code=$?
	trap - EXIT INT TERM
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$dir"
	exit "$code"
}
trap finish EXIT INT TERM

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() {
	printf '\nFAILED: %s\n' "$*" >&2
	for log in "$dir"/*.log; do sed "s|^|  $(basename "$log" .log): |" "$log" >&2; done
	exit 1
}

# Waits for a file with something in it, ten seconds at most.
wait_file() {
	for _ in $(seq 200); do
		[ ! -s "$1" ] || return 0
		read -rt 0.05 <> <(:) || :
	done
	fail "$(basename "$1") did not appear"
}

# service NAME [CERT KEY]: a web service (over TLS with a certificate); its port is in $dir/NAME.port.
service() {
	/usr/bin/python3 service.py "$1" "$dir/$1.port" "${@:2}" &
	pids+=($!)
	wait_file "$dir/$1.port"
}

# start NAME EXAMPLE [SED-SCRIPT]: runs an example under this name; listeners and admin get free ports.
start() {
	local name=$1 example=$2 script=${3:-}
	sed -e "$script" -e 's/\(^admin: .*port_value: \)[0-9]*/\10/' \
		-e "/^  - name: /,/address:/ s/\(^    address: .*port_value: \)[0-9]*/\10/" "../$example.yaml" >"$dir/$name.yaml"
	(cd "$dir" && exec "$bin" run -c "$name.yaml" --admin-address-path "$name.admin" --drain-time 1 >"$name.log" 2>&1) &
	pids+=($!)
	wait_file "$dir/$name.admin"
}

admin() { curl -gsS "http://$(cat "$dir/$1.admin")$2"; }
port() { admin "$1" /listeners | sed -n "s/^$2::.*:\([0-9]*\)$/\1/p"; }

# SHA-256 of the 200 MiB that a service sends.
expected() {
	/usr/bin/python3 -c 'import hashlib
h = hashlib.sha256(); b = hashlib.shake_256(b"hbone").digest(1 << 20)
for _ in range(200): h.update(b)
print(h.hexdigest(), " -")'
}

# measured COMMAND…: runs it, checks its output against expected, prints MiB/s.
measured() {
	local begin got ns
	begin=$(date +%s%N)
	got=$("$@" | sha256sum)
	ns=$(($(date +%s%N) - begin))
	[ "$got" = "$want" ] || fail "the bytes differ"
	echo "sha256 equal, $((200 * 1000000000 / ns)) MiB/s"
}

keep_running() {
	[ -n "$keep" ] || return 0
	step "Everything keeps running; ctrl-c stops it. Look at http://$(cat "$dir/gateway.admin")/$1"
	wait "${pids[-1]}"
}
