#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# find_atomics.sh ARCHIVE...: prints "OBJECT FUNCTION" of each function that locks the bus or fences (a lock prefix, xchg
# with memory, mfence) or refers to a lock of libuv, pthreads or C11, and last the number of all functions.
set -euo pipefail
for a in $(printf '%s\n' "$@" | grep -E '\.(a|lo)$' | sort -u); do objdump -dr --no-show-raw-insn "$a"; done | awk '
	/^[^ ]+\.o: +file format/ {object = $1; sub(/(\.pic)?\.o:$/, "", object)}
	/^[0-9a-f]+ <.*>:$/ {name = $2; gsub(/[<>:]/, "", name); sub(/\.(part|constprop|isra|cold).*/, "", name); functions++}
	/\tlock |\txchg[a-z]* +.*\(|\tmfence|R_X86_64_[^ \t]*[ \t]+(uv_|pthread_|mtx_|sem_)[a-z_]*(lock|wait|once)/ {
		if (!seen[object " " name]++) print object " " name
	}
	END {print functions}'
