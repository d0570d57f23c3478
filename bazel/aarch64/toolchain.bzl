# SPDX-License-Identifier: Apache-2.0
"""aarch64-linux-gnu-gcc. Its default path ends in /usr/include, so Debian's architecture-independent headers are
found and those in /usr/include/x86_64-linux-gnu are not."""

load("@bazel_tools//tools/cpp:cc_toolchain_config_lib.bzl", "tool_path")

def _impl(ctx):
    return cc_common.create_cc_toolchain_config_info(
        ctx = ctx,
        toolchain_identifier = "aarch64-debian",
        host_system_name = "local",
        target_system_name = "aarch64-linux-gnu",
        target_cpu = "aarch64",
        target_libc = "glibc",
        compiler = "gcc",
        abi_version = "gcc",
        abi_libc_version = "glibc",
        tool_paths = [
            tool_path(name = name, path = "/usr/bin/aarch64-linux-gnu-" + name)
            for name in ("ar", "cpp", "gcc", "gcov", "ld", "nm", "objdump", "strip")
        ],
        cxx_builtin_include_directories = [
            "/usr/lib/gcc-cross/aarch64-linux-gnu",
            "/usr/aarch64-linux-gnu/include",
            "/usr/include",
        ],
    )

aarch64_config = rule(
    implementation = _impl,
    provides = [CcToolchainConfigInfo],
)
