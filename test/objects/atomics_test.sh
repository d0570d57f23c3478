#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# atomics_test.sh ALLOWED FOUND: the functions that find_atomics.sh found are those that ALLOWED names, a line each with
# its reason. A static function of one file and the function it was inlined into are the same to a compiler, hence the names
# are of this compiler's.
set -euo pipefail
allowed=$(grep -v '^#' "$1" | awk 'NF {print $1 " " $2}' | sort -u)
found=$(sed '$d' "$2" | sort -u)

# An empty answer must not come from nothing to look at.
[ "$(tail -n 1 "$2")" -gt 1000 ] || { echo "only $(tail -n 1 "$2") functions were found"; exit 1; }
unknown=$(comm -23 <(echo "$found") <(echo "$allowed"))
gone=$(comm -13 <(echo "$found") <(echo "$allowed"))
if [ -n "$unknown" ]; then
	echo "these functions (object, name) have an atomic read-modify-write or a fence; keep the data of a worker on the"
	echo "worker, or, when each connection or less pays for it, add a line with the reason to test/objects/allowed.txt:"
	echo "$unknown"
fi
[ -z "$gone" ] || printf 'allowed.txt names functions that no longer need it:\n%s\n' "$gone"
[ -z "$unknown$gone" ]
