/* SPDX-License-Identifier: Apache-2.0 */
/* The program without batches of TLS records, to be compared with (see hb_tls_batch_records). */
#include "core/transport/tls_priv.h"

const unsigned hb_tls_batch_records = 1;
