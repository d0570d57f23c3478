# SPDX-License-Identifier: Apache-2.0
# ./dev docs: writes the generated parts of docs/. Sourced by dev.

cmd_docs() {
	ready
	bazel build --color=no --curses=no //api:configuration //core/app:hbone
	install -m 644 bazel-bin/api/configuration.md docs/configuration.md
	/usr/bin/python3 docs/generate_reference.py bazel-bin/core/app/hbone
	say "wrote docs/configuration.md and docs/reference.md"
}
