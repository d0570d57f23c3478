# SPDX-License-Identifier: Apache-2.0
# ./dev bench: the benchmark suite of test/bench, beside other proxies. Sourced by dev.

PACKAGES_BENCH="haproxy nginx libnginx-mod-stream nghttp2-proxy h2o"

# The peers are programs here, not services: Debian asks /usr/sbin/policy-rc.d before it starts one.
setup_bench_peers() {
	local policy=/usr/sbin/policy-rc.d
	# shellcheck disable=SC2086
	[ -n "$(missing_packages $PACKAGES_BENCH)" ] || return 0
	need_root
	[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && trap "rm -f $policy" EXIT; }
	PACKAGES_TEST="$PACKAGES_TEST $PACKAGES_BENCH" setup_packages
	[ -z "$(trap -p EXIT)" ] || { rm -f "$policy" && trap - EXIT; }
}

# Programs by the names that test/bench/peers.py knows, ours stripped as ./dev install does.
setup_bench_programs() {
	local bin=$1 name
	say "building the program and the load tool"
	bazel build --color=no --curses=no --show_progress_rate_limit=10 //core/app:hbone //test/bench/load //test/bench:hbone_per_record \
		//test/bench:floor
	for name in core/app/hbone test/bench/load/load test/bench/hbone_per_record test/bench/floor; do strip -o "$bin/$(basename $name)" "bazel-bin/$name"; done
	# Envoy itself, without the Python that starts it.
	ln -sfn "$("$VENV/bin/python" -c 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent)')/_bin/envoy" "$bin/envoy"
	[ -z "${ZTUNNEL:-}" ] || strip -o "$bin/ztunnel" "$ZTUNNEL" || die "ZTUNNEL=$ZTUNNEL is no program for this machine"
}

cmd_bench() {
	local out=$CACHE/bench alone=(unshare --net) bin
	setup_venv
	case " $* " in
	*" --help "* | *" -h "* | *" --list "*)
		"$VENV/bin/python" test/bench/bench.py --out "$out" "$@"
		return
		;;
	esac
	# What is wrong here is told before anything is built.
	"$VENV/bin/python" test/bench/bench.py --out "$out" --list "$@" >/dev/null || return
	[ -z "${ZTUNNEL:-}" ] || { [ -f "$ZTUNNEL" ] && [ -x "$ZTUNNEL" ]; } || die "ZTUNNEL=$ZTUNNEL: there is no such program"
	[ "$(id -u)" = 0 ] || alone+=(--map-root-user)
	"${alone[@]}" true || die "the benchmark needs a network namespace of its own: be root, in a container with --privileged"
	ready && setup_bench_peers
	# Of this run alone: another one may build meanwhile.
	bin=$(mktemp -d)
	# shellcheck disable=SC2064
	trap "rm -rf '$bin'" EXIT
	setup_bench_programs "$bin"
	# It is this process from here on, so that whoever ends it ends the suite, which removes its programs itself.
	PATH=$bin:/usr/sbin:$PATH exec "${alone[@]}" "$VENV/bin/python" test/bench/bench.py --out "$out" --bin "$bin" "$@"
}
