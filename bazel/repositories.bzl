# SPDX-License-Identifier: Apache-2.0
"""Where third-party code comes from: Debian's packages, and three Debian source packages unpacked by ./dev setup."""

def _debian_source_impl(ctx):
    root = ctx.path(Label("//:WORKSPACE")).dirname
    source = root.get_child(".deps").get_child(ctx.name)
    if not source.exists:
        fail("the source of %s is not unpacked yet: run ./dev setup" % ctx.name)
    for entry in source.readdir():
        if entry.basename not in ("BUILD", "BUILD.bazel", "WORKSPACE"):
            ctx.symlink(entry, entry.basename)
    ctx.symlink(ctx.attr.build_file, "BUILD")

debian_source = repository_rule(
    doc = "The repository NAME is the folder .deps/NAME, which ./dev setup made, under our build file.",
    implementation = _debian_source_impl,
    local = True,
    attrs = {"build_file": attr.label(mandatory = True, allow_single_file = True)},
)
