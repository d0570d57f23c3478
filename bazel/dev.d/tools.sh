# SPDX-License-Identifier: Apache-2.0
# ./dev fmt, lint, cross, install, dist, demo. Sourced by dev.

# Headers are laid out by hand: a formatter would break the columns of their tables.
sources() { git ls-files '*.c' '*.cc'; }

cmd_fmt() {
	ready
	if [ "${1:-}" = --check ]; then
		sources | xargs -r clang-format --dry-run -Werror 2>&1 | sed -n 's/^\([^:]*\):.*code should be clang-formatted.*/\1/p' | sort -u
		return 0
	fi
	if [ $# -gt 0 ]; then clang-format -i "$@"; else sources | xargs -r clang-format -i; fi
}

cmd_lint() {
	/usr/bin/python3 bazel/lint.py
}

cmd_cross() {
	local libraries
	ready
	use_config aarch64
	say "compiling our objects for aarch64"
	libraries=$(bazel query --noshow_progress 'kind(cc_library, //core/... + filter("^//(api|filters|listeners|upstreams|xds)[/:]", //...))' 2>/dev/null)
	# shellcheck disable=SC2086
	"${BAZEL[@]}" build "${BAZEL_FLAGS[@]}" --color=no --curses=no --show_progress_rate_limit=10 $libraries
	say "aarch64: $(wc -w <<<"$libraries") libraries compiled"
}

# Puts the program, stripped, and its texts under $1.
install_into() {
	local root=$1
	install -d "$root/bin" "$root/share/doc/hbone"
	strip -o "$root/bin/hbone" bazel-bin/core/app/hbone
	chmod 755 "$root/bin/hbone"
	install -m 644 LICENSE "$root/share/doc/hbone/"
	[ ! -f README.md ] || install -m 644 README.md "$root/share/doc/hbone/"
	[ ! -d examples ] || { install -d "$root/share/doc/hbone/examples"; cp -R examples/. "$root/share/doc/hbone/examples/"; }
}

cmd_install() {
	local prefix=${1:-/usr/local}
	cmd_build
	install_into "$prefix"
	echo "$prefix/bin/hbone"
}

cmd_dist() {
	local version name
	cmd_build
	version=$(bazel-bin/core/app/hbone version | awk 'NR == 1 {print $2}')
	name=hbone-$version-linux-$(uname -m)
	rm -rf "dist/$name" && mkdir -p "dist/$name"
	install_into "dist/$name"
	tar -C dist --owner=0 --group=0 --sort=name -czf "dist/$name.tar.gz" "$name"
	rm -rf "dist/$name"
	echo "$PWD/dist/$name.tar.gz"
}

cmd_demo() {
	cmd_build
	HBONE_BIN=$PWD/bazel-bin/core/app/hbone exec examples/demo/run "$@"
}
