# SPDX-License-Identifier: Apache-2.0
"""The macros every BUILD file of this tree uses; bazel/README.md has an example of each."""

HB_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wshadow",
    "-Wvla",
    "-Wpointer-arith",
    "-Wwrite-strings",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    # Fields that Envoy deprecated are honoured all the same.
    "-Wno-deprecated-declarations",
]

# Casts between protocol structs and bytes are common here, hence no strict aliasing; frame pointers keep
# profiles and panic dumps readable.
HB_CODEGEN = [
    "-O2",
    "-g",
    "-fno-omit-frame-pointer",
    # For debuggers alone, in .debug_frame, which strip takes away; the program has no other (no_unwind.ld).
    "-fno-asynchronous-unwind-tables",
    "-fno-strict-aliasing",
    "-fno-common",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fdata-sections",
    "-fstack-protector-strong",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=2",
    "-D_GNU_SOURCE",
    "-UNDEBUG",
]

HB_C = ["-std=gnu11"]
HB_C_ONLY_WARNINGS = [
    "-Wstrict-prototypes",
    "-Wold-style-definition",
]
HB_CXX = ["-std=c++17", "-fno-exceptions", "-fno-rtti"]

HB_LINKOPTS = [
    "-static-libgcc",
    "-Wl,--gc-sections",
    "-Wl,-z,relro,-z,now",
    "-pthread",
]

def _copts(srcs, extra):
    """Flags for a target whose sources are all C, or all C++ (a .cc wrapper around a C++ library)."""
    cxx = [s for s in srcs if s.endswith(".cc")]
    if cxx and [s for s in srcs if s.endswith(".c")]:
        fail("keep C and C++ sources in separate targets: %s" % cxx)
    return HB_WARNINGS + HB_CODEGEN + (HB_CXX if cxx else HB_C + HB_C_ONLY_WARNINGS) + extra

def hb_library(name, srcs = [], hdrs = [], deps = [], copts = [], **kwargs):
    """A room or a part of one. Headers in hdrs are its contract; x_priv.h belongs into srcs."""
    native.cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        copts = _copts(srcs, copts),
        linkstatic = True,
        deps = deps,
        **kwargs
    )

def hb_binary(name, srcs = [], deps = [], copts = [], linkopts = [], **kwargs):
    """A program, static but for libc; what is marked HB_EXPORT is visible to filters it loads."""
    exports = "//bazel:exports.list"
    no_unwind = "//bazel:no_unwind.ld"
    native.cc_binary(
        name = name,
        srcs = srcs,
        additional_linker_inputs = [
            exports,
            no_unwind,
        ],
        copts = _copts([s for s in srcs if not s.endswith(".h")], copts),
        linkopts = HB_LINKOPTS + [
            "-pie",
            # The tables of pointers in a PIE need 350 kB of relocations, or 10 kB packed; gold cannot pack.
            "-fuse-ld=bfd",
            "-Wl,-z,pack-relative-relocs",
            "-Wl,--dynamic-list=$(location %s)" % exports,
        ] + select({
            "//bazel:unwind_tables": [],
            "//conditions:default": [
                "-Wl,--no-eh-frame-hdr",
                "-Wl,-T,$(location %s)" % no_unwind,
            ],
        }) + linkopts,
        linkstatic = True,
        deps = deps,
        **kwargs
    )

def hb_test(name, srcs = [], deps = [], copts = [], linkopts = [], size = "small", **kwargs):
    """A unit test on cmocka: a main() that returns cmocka_run_group_tests()."""
    native.cc_test(
        name = name,
        srcs = srcs,
        copts = _copts([s for s in srcs if not s.endswith(".h")], copts),
        linkopts = HB_LINKOPTS + linkopts,
        linkstatic = True,
        size = size,
        deps = deps + ["@debian//:cmocka"],
        **kwargs
    )

def hb_fuzz(name, srcs, deps = [], corpus = [], parser = [], copts = [], **kwargs):
    """A fuzz target: srcs define LLVMFuzzerTestOneInput.

    NAME (which ends in _fuzz) is the libFuzzer program: ./dev fuzz NAME, clang only, hence manual. `corpus` are its
    seeds, the files of corpus/NAME-without-_fuzz in this package. `parser` names the source files, by path from the
    root, whose line coverage ./dev fuzz prints. NAME_corpus_test runs the seeds through the same function in the
    plain build, so a seed that once crashed is a regression test.
    """
    native.cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        copts = _copts(srcs, copts),
        linkopts = HB_LINKOPTS,
        linkstatic = True,
        tags = [
            "fuzz",
            "manual",
        ],
        deps = deps,
        **kwargs
    )
    native.genrule(
        name = name + "_parser",
        testonly = True,
        outs = [name + ".parser"],
        cmd = "echo '%s' > $@" % " ".join(parser),
        tags = ["manual"],
    )
    native.cc_test(
        name = name + "_corpus_test",
        srcs = srcs,
        copts = _copts(srcs, copts),
        args = ["$(location %s)" % c for c in corpus],
        data = corpus,
        linkopts = HB_LINKOPTS,
        linkstatic = True,
        size = "small",
        deps = deps + ["//test/support:corpus_main"],
    )

def hb_proto_c(name, srcs, deps = [], strip = None, visibility = None):
    """protobuf-c code for .proto files, as one cc_library NAME, and NAME.pb, their descriptor set with comments.

    Import paths are relative to the folder `strip` (default: this package). A header is included by its import
    path, "envoy/config/core/v3/address.pb-c.h".
    """
    root = strip or native.package_name()
    c = [s[:-len(".proto")] + ".pb-c.c" for s in srcs]
    h = [s[:-len(".proto")] + ".pb-c.h" for s in srcs]
    native.genrule(
        name = name + "_gen",
        srcs = srcs,
        outs = c + h,
        cmd = "protoc-c -I%s --c_out=$(RULEDIR) $(SRCS)" % root,
        message = "protobuf-c for",
    )
    native.genrule(
        name = name + "_descriptors",
        srcs = srcs,
        outs = [name + ".pb"],
        cmd = "protoc -I%s --include_imports --include_source_info --descriptor_set_out=$@ $(SRCS)" % root,
        message = "Descriptors of",
        visibility = visibility,
    )
    native.cc_library(
        name = name,
        srcs = c,
        hdrs = h,
        copts = HB_C + HB_CODEGEN + ["-w"],
        includes = ["."],
        linkstatic = True,
        visibility = visibility,
        deps = deps + ["@debian//:protobuf_c"],
    )

def hb_filter(name, srcs, hdrs = [], deps = [], **kwargs):
    """A filter: a library only core/app and the tests may use. Its line in bazel/filters.bzl puts it into the binary."""
    hb_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        visibility = ["//bazel:app"],
        deps = deps + ["//core/filter"],
        **kwargs
    )

# The last-but-one folder of a filter's label says which kind it is; its singleton's symbol carries the kind.
_SYMBOL = {
    "http": "hb_hfilter_",
    "listener": "hb_lfilter_",
    "network": "hb_filter_",
}

def hb_filter_symbol(label):
    package = label.split(":")[0]
    parts = package.split("/")
    return _SYMBOL[parts[-2]] + parts[-1]

def hb_filter_table(name, filters, visibility = None):
    """Links the filters of a {name: label} dictionary and writes the NULL-terminated table of their types."""
    symbols = [hb_filter_symbol(filters[f]) for f in sorted(filters)]
    lines = ["/* Written from bazel/filters.bzl. */", "#include <stddef.h>", "", "struct hb_filter_type;", ""]
    lines += ["extern const struct hb_filter_type %s;" % s for s in symbols]
    lines += ["", "extern const struct hb_filter_type *const hb_filter_table[];"]
    lines += ["const struct hb_filter_type *const hb_filter_table[] = {"]
    lines += ["\t&%s," % s for s in symbols] + ["\tNULL,", "};", ""]
    native.genrule(
        name = name + "_gen",
        outs = [name + ".c"],
        cmd = "printf '%s' > $@" % "\\n".join(lines).replace("\t", "\\t"),
    )
    native.cc_library(
        name = name,
        srcs = [name + ".c"],
        copts = HB_C + HB_CODEGEN + HB_WARNINGS,
        linkstatic = True,
        visibility = visibility,
        deps = [filters[f] for f in sorted(filters)],
    )
