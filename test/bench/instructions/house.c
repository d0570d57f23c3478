/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>
#include "core/base/burst.h"
#include "core/config/resource.h"
#include "test/bench/instructions/instructions.h"
#include "test/support/filter_harness.h"
#include "upstreams/upstreams.h"

size_t
hbi_heap(void)
{
	return (mallinfo2().uordblks + hb_burst_in_use());
}

void
hbi_turn(void)
{
	hb_worker_turn(hb_worker_control(), false);
	hb_worker_turn(hbt_worker(), false);
}

void
hbi_house_init(void)
{
	const struct hb_upstreams_options o = { .offline = false };
	int r;

	hb_cfg_types_init();
	(void)hbt_init(HB_IO_EPOLL);
	hb_clock_fake(hb_worker_control(), 1000000);
	r = hb_upstreams_init(&o, NULL);
	HB_ASSERT(r == 0);
}

void
hbi_house_fini(void)
{
	HBI_UNTIL(hb_conn_count(hbt_worker()) == 0);
	for (int i = 0; i < 8; i++)
		hbi_turn();
	hb_upstreams_stop();
	for (int i = 0; i < 8; i++)
		hbi_turn();
	hb_conn_worker_fini(hbt_worker());
	hbt_fini();
	hb_upstreams_fini();
}

static const struct hb_resource_kind *
kind_of(const ProtobufCMessageDescriptor *d)
{
	const struct hb_resource_kind *kind = hb_resource_kind_find(hb_str(d->name));

	HB_ASSERT(kind != NULL);
	return (kind);
}

void
hbi_apply(const ProtobufCMessageDescriptor *d, const char *yaml)
{
	const struct hb_resource_kind *kind = kind_of(d);
	struct hb_cfg *cfg = hb_cfg_new("resource.yaml", NULL);
	const ProtobufCMessage *m = hb_cfg_parse_text(cfg, hb_str(yaml), d);
	char *name;

	HB_ASSERT(m != NULL);
	name = hb_strndup(kind->name_of(m).p, kind->name_of(m).len);
	(void)hb_resource_apply(cfg, kind, name, "", HB_RESOURCE_STATIC, m);
	if (hb_errs_any(hb_cfg_errs(cfg)))
		HB_WRONG(hb_cfg_errs(cfg)->v[0].text);
	hb_free(name);
	hb_cfg_free(&cfg);
}

void
hbi_remove(const ProtobufCMessageDescriptor *d, const char *name)
{
	bool was = hb_resource_remove(kind_of(d), name, HB_RESOURCE_STATIC);

	HB_ASSERT(was);
}

int
hbi_origin(void)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int fd = hbt_listen(&ss, &len);
	char yaml[512];

	if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		HB_WRONG("the listening socket cannot be made non-blocking");
	(void)snprintf(yaml, sizeof yaml,
		"name: origin\n"
		"load_assignment:\n"
		"  cluster_name: origin\n"
		"  endpoints:\n"
		"  - lb_endpoints:\n"
		"    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %u}}}\n",
		ntohs(((struct sockaddr_in *)&ss)->sin_port));
	hbi_apply(HBI_CLUSTER, yaml);
	return (fd);
}

int
hbi_accept(int fd)
{
	int c = -1;

	HBI_UNTIL((c = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0);
	return (c);
}
