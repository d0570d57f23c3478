/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/bench/bare.h: what test/bench/floor.c and the load tool's `bare` modes say to each other in
 * the place of TLS and HTTP/2: as many messages, as long, and nothing in them.
 *
 * A stream, on a connection that stays: O opens one; o says that its upstream connection stands;
 * what follows goes there and back; C ends it, and the next O may follow at once.
 *
 * A tunnel, on a new connection: BARE_HELLO bytes, the first T (a full handshake) or R (a resumed
 * one); back come BARE_FLIGHT or BARE_SHORT bytes; BARE_FINISH or BARE_SHORT bytes end the handshake
 * and ask for the stream; then o and the rest as above, until the connection ends.
 */
#ifndef HB_TEST_BENCH_BARE_H
#define HB_TEST_BENCH_BARE_H

#define BARE_OPEN    'O'
#define BARE_OPENED  'o'
#define BARE_CLOSE   'C'
#define BARE_FULL    'T'
#define BARE_RESUMED 'R'

/* What TLS 1.3 needs with one P-256 certificate of 600 bytes on each side. */
#define BARE_HELLO  512u
#define BARE_FLIGHT 1200u
#define BARE_FINISH 1200u
#define BARE_SHORT  256u

#endif
