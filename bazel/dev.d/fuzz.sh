# SPDX-License-Identifier: Apache-2.0
# ./dev fuzz: libFuzzer targets, built by clang with ASan, UBSan and line coverage. Sourced by dev.

fuzz_targets() { bazel query --noshow_progress 'attr(tags, "\bfuzz\b", //test/...)' 2>/dev/null; }

# Prints the line coverage of the parser that the corpus of target $1 reaches; $2 is its program, $3 its profile.
fuzz_coverage() {
	local name=$1 program=$2 profile=$3 parser
	parser=$(cat "$program.parser" 2>/dev/null) || return 0
	[ -n "$parser" ] || return 0
	llvm-profdata-14 merge -sparse "$profile" -o "$profile.data" 2>/dev/null || return 0
	# Columns of a file's line: regions 2-4, functions 5-7, lines 8-10 (count, missed, percent).
	llvm-cov-14 report "$program" -instr-profile="$profile.data" 2>/dev/null |
		awk -v n="$name" -v p="$parser" '
			index(" " p " ", " " $1 " ") {lines += $8; missed += $9}
			END {if (lines > 0) printf "%s: %.2f%% of the lines of %s covered\n", n, 100 * (lines - missed) / lines, p}'
}

# Runs one target for $2 seconds from its seeds and what earlier runs found (kept in the cache folder).
fuzz_one() {
	local label=$1 seconds=$2 name=${1##*:} package program seeds work rc=0
	package=${label#//}
	package=${package%%:*}
	program=$("${BAZEL[@]}" info "${BAZEL_FLAGS[@]}" bazel-bin 2>/dev/null)/$package/$name
	seeds=$package/corpus/${name%_fuzz}
	work=$CACHE/fuzz/$name
	mkdir -p "$work" "$CACHE/fuzz/crashes"
	say "fuzzing $name for $seconds s"
	LLVM_PROFILE_FILE=$work.profraw "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -verbosity=0 \
		-print_final_stats=1 -artifact_prefix="$CACHE/fuzz/crashes/$name-" "$work" "$seeds" </dev/null >"$work.log" 2>&1 || rc=$?
	awk -v n="$name" -v rc="$rc" '/number_of_executed_units/ {printf "%s: %s inputs run, %s\n", n, $2, rc ? "then it failed" : "no crash"}' "$work.log"
	if [ "$rc" != 0 ]; then
		tail -n 40 "$work.log" >&2
		say "$name failed; the input is in $CACHE/fuzz/crashes: put it into $seeds with the fix"
		FAILED=$((FAILED + 1))
		return 0
	fi
	PASSED=$((PASSED + 1))
	fuzz_coverage "$name" "$program" "$work.profraw"
}

fuzz_all() {
	local seconds=$1 labels label
	labels=${2:-$(fuzz_targets)}
	[ -n "$labels" ] || { say "there is no fuzz target"; return 0; }
	use_config fuzz
	sanitizer_options
	say "building fuzz targets with clang"
	# shellcheck disable=SC2086
	"${BAZEL[@]}" build "${BAZEL_FLAGS[@]}" --color=no --curses=no --show_progress_rate_limit=10 $labels $(sed 's/[^ ]*$/&.parser/' <<<"$labels") ||
		{ FAILED=$((FAILED + 1)); return 0; }
	for label in $labels; do fuzz_one "$label" "$seconds"; done
}

cmd_fuzz() {
	local seconds=60 name='' labels=''
	while [ $# -gt 0 ]; do
		case $1 in
		--seconds) seconds=${2:?--seconds needs a number}; shift ;;
		-*) die "unknown option $1; usage: ./dev fuzz [NAME] [--seconds N]" ;;
		*) name=$1 ;;
		esac
		shift
	done
	ready
	if [ -n "$name" ]; then
		labels=$(fuzz_targets | grep -E ":$name(_fuzz)?\$") || die "no fuzz target '$name'; there are: $(fuzz_targets | sed 's/.*://' | tr '\n' ' ')"
	fi
	fuzz_all "$seconds" "$labels"
	printf '%s passed, %s failed\n' "$PASSED" "$FAILED"
	[ "$FAILED" = 0 ]
}
