#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fails when the configuration reference is not what the comments in api/ say.
diff "$1" "$2" && exit 0
echo "docs/configuration.md is stale: run ./dev docs" >&2
exit 1
