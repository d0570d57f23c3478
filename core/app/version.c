/* SPDX-License-Identifier: Apache-2.0 */
#include "core/app/app.h"

/* Set by the build; a plain build of the tree has no revision. */
#ifndef HB_REVISION
#define HB_REVISION "source"
#endif

const char hb_version[] = "hbone 0.1.0 (" HB_REVISION ")";
