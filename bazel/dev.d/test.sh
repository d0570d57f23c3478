# SPDX-License-Identifier: Apache-2.0
# ./dev test, asan, tsan: unit tests (Bazel, cmocka), then integration tests (pytest). Sourced by dev.

# Sets BAZEL and BAZEL_FLAGS for a configuration ("" is the plain build). A sanitizer or fuzzing build has an output base of
# its own, so bazel-bin stays the plain build; third-party objects are the same files from the disk cache.
use_config() {
	local config=$1 base
	BAZEL=(bazel)
	BAZEL_FLAGS=()
	[ -n "$config" ] || return 0
	base=$CACHE/out/$config-$(printf %s "$PWD" | sha256sum | cut -c1-12)
	prune_output_bases
	mkdir -p "$CACHE/out"
	BAZEL=(bazel --output_base="$base" --max_idle_secs=60)
	BAZEL_FLAGS=(--config="$config" --experimental_convenience_symlinks=ignore)
}

# Bazel cleans up nothing by itself: drop output bases whose work tree is gone (a clone that was thrown away), and what
# the disk cache has not handed out for two weeks.
prune_output_bases() {
	local base
	for base in "$CACHE"/out/*/ "$HOME"/.cache/bazel/_bazel_"$(id -un)"/*/; do
		[ -f "$base/DO_NOT_BUILD_HERE" ] && [ -d "$base/execroot/hbone" ] || continue
		[ -d "$(cat "$base/DO_NOT_BUILD_HERE")" ] || { chmod -R u+w "$base"; rm -rf "$base"; }
	done
	[ ! -d "$CACHE/bazel-cache" ] || find "$CACHE/bazel-cache" -type f -atime +14 -delete
}

PASSED=0 FAILED=0 SKIPPED=0

# Adds up cmocka's closing lines in the logs of the targets that `bazel test` listed in $1; a target without such lines
# counts as one test, one that failed without naming a test as one failure.
count_unit() {
	local summary=$1 logs=$2 label status counts p f s
	while read -r label status; do
		counts=$(awk '/^\[  PASSED  \] [0-9]+ test/ {p += $4} /^\[  SKIPPED \] [^:]*: [0-9]+ test/ {s += $(NF-3)}
			/^\[  FAILED  \] [^:]*: [0-9]+ test/ {f += $(NF-3)} END {print p + 0, f + 0, s + 0}' \
			"$logs/$(tr : / <<<"${label#//}")/test.log" 2>/dev/null) || counts="0 0 0"
		read -r p f s <<<"$counts"
		if [ "$status" = PASSED ]; then
			[ $((p + f + s)) -gt 0 ] || p=1
		elif [ "$f" = 0 ]; then
			f=1
		fi
		PASSED=$((PASSED + p)) FAILED=$((FAILED + f)) SKIPPED=$((SKIPPED + s))
	done < <(sed -nE 's/^(\/\/[^ ]+) +(\(cached\) )?(PASSED|FAILED|TIMEOUT|FLAKY|NO STATUS|INCOMPLETE).*/\1 \3/p' "$summary" | tr -d '\r')
}

unit_tests() {
	local long=$1 pattern=$2 tag=-long targets log rc=0
	[ -z "$long" ] || tag=
	# Tests of the objects that are shipped.
	[ -z "$CONFIG" ] || tag=${tag:+$tag,}-plain
	targets='//test/... //docs/...'
	if [ -n "$pattern" ]; then
		targets=$(bazel query --noshow_progress "filter('$pattern', tests(//test/... + //docs/...))" 2>/dev/null | tr '\n' ' ')
		[ -n "${targets// /}" ] || { say "no unit test target matches '$pattern'"; return 0; }
	fi
	say "unit tests${CONFIG:+ ($CONFIG)}: building and running"
	log=$(mktemp)
	# shellcheck disable=SC2086
	"${BAZEL[@]}" test "${BAZEL_FLAGS[@]}" --keep_going --build_tests_only --test_tag_filters=$tag --test_summary=short \
		--color=no --curses=no --show_progress_rate_limit=10 $targets 2>&1 | tee "$log" || rc=${PIPESTATUS[0]}
	# 4 says that no test was found, 3 that some failed (counted below); anything else is a failure of its own.
	count_unit "$log" "$("${BAZEL[@]}" info "${BAZEL_FLAGS[@]}" bazel-testlogs 2>/dev/null)"
	if [ "$rc" != 0 ] && [ "$rc" != 4 ] && [ "$FAILED" = 0 ]; then FAILED=1; fi
	rm -f "$log"
}

# Adds pytest's numbers from its JUnit file.
count_pytest() {
	local counts p f s
	counts=$(/usr/bin/python3 - "$1" <<-'PY' 2>/dev/null || echo 0 1 0
		import sys, xml.etree.ElementTree as tree
		n = [sum(int(suite.get(k, 0)) for suite in tree.parse(sys.argv[1]).iter("testsuite"))
		     for k in ("tests", "failures", "errors", "skipped")]
		print(n[0] - sum(n[1:]), n[1] + n[2], n[3])
	PY
	)
	read -r p f s <<<"$counts"
	PASSED=$((PASSED + p)) FAILED=$((FAILED + f)) SKIPPED=$((SKIPPED + s))
}

integration_tests() {
	local long=$1 pattern=$2 xml rc=0 timeout=180 select=(-m "not long")
	[ -d test/integration ] || return 0
	say "integration tests${CONFIG:+ ($CONFIG)}: building the program"
	"${BAZEL[@]}" build "${BAZEL_FLAGS[@]}" --color=no --curses=no --show_progress_rate_limit=10 \
		//core/app:hbone //test/bench/load //test/bench:floor ||
		{ FAILED=$((FAILED + 1)); return 0; }
	HBONE_BIN=$("${BAZEL[@]}" info "${BAZEL_FLAGS[@]}" bazel-bin 2>/dev/null)/core/app/hbone
	export HBONE_BIN HBONE_SANITIZER=$CONFIG HBONE_LONG=${long:+1} PATH="$VENV/bin:$GO_PEERS:$PATH"
	[ -z "$long" ] || { select=(); timeout=1800; }
	[ -z "$pattern" ] || select+=(-k "$pattern")
	say "integration tests${CONFIG:+ ($CONFIG)}: running"
	xml=$(mktemp)
	"$VENV/bin/python" -m pytest -q -p no:cacheprovider -n "${HBONE_TEST_JOBS:-auto}" --timeout="$timeout" --junitxml="$xml" \
		"${select[@]}" test/integration </dev/null || rc=$?
	# 5: nothing was selected, which only a pattern may cause.
	if [ "$rc" != 5 ] || [ -z "$pattern" ]; then count_pytest "$xml"; fi
	if [ "$rc" -gt 1 ] && [ "$rc" != 5 ] && [ "$FAILED" = 0 ]; then FAILED=1; fi
	rm -f "$xml"
}

run_tests() {
	CONFIG=$1
	shift
	local long='' pattern='' only=''
	while [ $# -gt 0 ]; do
		case $1 in
		--long) long=1 ;;
		--unit | --integration) only=$1 ;;
		-*) die "unknown option $1; usage: ./dev test [--long] [--unit|--integration] [PATTERN]" ;;
		*) pattern=$1 ;;
		esac
		shift
	done
	ready
	use_config "$CONFIG"
	sanitizer_options
	[ "$only" = --integration ] || unit_tests "$long" "$pattern"
	[ "$only" = --unit ] || integration_tests "$long" "$pattern"
	[ -z "$long" ] || fuzz_all 60
	printf '%s passed, %s failed' "$PASSED" "$FAILED"
	[ "$SKIPPED" = 0 ] || printf ', %s skipped' "$SKIPPED"
	printf '\n'
	[ "$FAILED" = 0 ] && [ "$PASSED" -gt 0 ]
}

# The same options that .bazelrc gives to unit tests, for the program that pytest starts.
sanitizer_options() {
	export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1
	export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
	export TSAN_OPTIONS=halt_on_error=1
}

cmd_test() { run_tests '' "$@"; }
cmd_asan() { run_tests asan "$@"; }
cmd_tsan() { run_tests tsan "$@"; }
