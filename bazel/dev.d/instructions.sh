# SPDX-License-Identifier: Apache-2.0
# ./dev instructions: instruction counts of fixed runs under callgrind, held to a record. Sourced by dev.

setup_valgrind() {
	[ -n "$(missing_packages valgrind)" ] || return 0
	need_root
	say "installing Debian packages: valgrind"
	mkdir -p "$CACHE"
	DEBIAN_FRONTEND=noninteractive apt-get -qq update >"$CACHE/apt.log" 2>&1 </dev/null || true
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 install valgrind \
		</dev/null >>"$CACHE/apt.log" 2>&1 || die "apt-get could not install valgrind; its log: $CACHE/apt.log"
}

cmd_instructions() {
	ready_to_build && setup_valgrind
	say "building the runs"
	bazel build --color=no --curses=no --show_progress_rate_limit=10 //test/bench/instructions
	/usr/bin/python3 test/bench/instructions/check.py bazel-bin/test/bench/instructions/instructions "$@"
}
