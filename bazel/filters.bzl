# SPDX-License-Identifier: Apache-2.0
"""The filters of the binary, one line each, sorted: the name a configuration uses, and where the code lives."""

HB_FILTERS = {
}
