# SPDX-License-Identifier: Apache-2.0
# ./dev docs: writes the generated parts of docs/. Sourced by dev.

cmd_docs() {
	ready
	bazel build --color=no --curses=no //api:configuration
	install -m 644 bazel-bin/api/configuration.md docs/configuration.md
	say "wrote docs/configuration.md"
}
