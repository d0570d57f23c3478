/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/bench/instructions/instructions.h: fixed runs in one process, whose instructions are counted
 * by callgrind and held to a record (record.json).
 *
 * A run is as repeatable as can be: one thread turns all loops, clocks stand still, random bytes come
 * from a fixed sequence. Only what `run` does is counted.
 */
#ifndef HB_TEST_BENCH_INSTRUCTIONS_H
#define HB_TEST_BENCH_INSTRUCTIONS_H

#include "core/filter/conn.h"
#include "core/transport/transport.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"

struct hbi_run {
	const char *name;
	const char *unit; /* of `n`                                      */
	unsigned n;       /* in the record                                */
	unsigned warm;    /* so many before counting starts               */
	void (*setup)(void);
	void (*run)(unsigned n);
	void (*fini)(void);
};

/* bulk.c */
extern const struct hbi_run hbi_download, hbi_upload, hbi_handshakes, hbi_resumptions;
/* connections.c */
extern const struct hbi_run hbi_connections;
/* tunnels.c */
extern const struct hbi_run hbi_tunnels;
/* config.c */
extern const struct hbi_run hbi_matches, hbi_clusters;

/* Bytes of the heap, what malloc adds included, of one of something; `name` goes into the record. */
struct hbi_memory {
	const char *name;
	size_t (*measure)(void);
};
/* tunnels.c */
extern const struct hbi_memory hbi_mem_passthrough, hbi_mem_connection, hbi_mem_stream;
/* config.c */
extern const struct hbi_memory hbi_mem_cluster;

/* In use now. */
size_t hbi_heap(void);

/* ------------------------------------------------------------------ house.c */

/* One worker and the control thread, both turned by the calling thread. */
void hbi_house_init(void);
void hbi_house_fini(void);
void hbi_turn(void);
#define HBI_UNTIL(cond)                                                                      \
	do {                                                                                 \
		for (unsigned turns_ = 0; !(cond); turns_++) {                               \
			hbi_turn();                                                          \
			if (turns_ > 100000)                                                 \
				hb_panic(__FILE__, __LINE__, __func__, "never: " #cond);     \
		}                                                                            \
	} while (0)
/* A kind of resource by its message. */
#define HBI_CLUSTER  (&envoy__config__cluster__v3__cluster__descriptor)
#define HBI_LISTENER (&envoy__config__listener__v3__listener__descriptor)
/* From YAML. */
void hbi_apply(const ProtobufCMessageDescriptor *, const char *yaml);
void hbi_remove(const ProtobufCMessageDescriptor *, const char *name);
/* The cluster "origin": what hbi_listen listens on. Returns the socket. */
int hbi_origin(void);
/* Accepts what must be there soon. */
int hbi_accept(int fd);

#endif
