#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# size_test.sh PROGRAM UNWANTED LIMIT: the program, stripped, has at most LIMIT bytes, no unwind tables, and none of the
# symbols that UNWANTED describes: what costs tens of kilobytes when one careless reference pulls it in.
set -euo pipefail
size=$(strip -o "$TEST_TMPDIR/stripped" "$1" && stat -c %s "$TEST_TMPDIR/stripped")
symbols=$(nm "$1" | awk '{print $NF}')
rc=0

# An empty answer must not come from nothing to look at.
[ "$(wc -l <<<"$symbols")" -gt 1000 ] || { echo "$1 has hardly any symbol"; exit 1; }
while read -r pattern reason; do
	found=$(grep -E -m 3 -- "^$pattern" <<<"$symbols") || continue
	printf 'these are in the program (%s):\n%s\n' "$reason" "$found"
	rc=1
done < <(grep -v '^#\|^$' "$2")
if readelf -SW "$1" | grep -q eh_frame; then
	echo "the program has unwind tables; bazel/no_unwind.ld leaves them out"
	rc=1
fi
[ "$size" -le "$3" ] || { echo "the program has $size bytes; at most $3 were wanted (row S3 of docs/performance.md)"; rc=1; }
exit $rc
