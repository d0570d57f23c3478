/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/mesh/policies.h: the authorization policies that the whole process shares, and which of
 * them apply to a workload.
 *
 * Policies come and go by name, from the bootstrap or a management server, independent of the
 * chains that ask for them: an HBONE connection lives for days, and so must its answer change under
 * it. A view is what one workload sees: GLOBAL policies, those of its namespace, those that it
 * names, and the ones of its own. It is rebuilt before a change returns, so a worker that is told
 * to decide again (HB_EVENT_REVALIDATE) already sees the new set.
 *
 * Control thread, but for hb_policy_view_get.
 */
#ifndef HB_CORE_MESH_POLICIES_H
#define HB_CORE_MESH_POLICIES_H

#include "core/config/resource.h"
#include "core/mesh/authz.h"

/* Resources of type istio.security.Authorization, called "namespace/name". */
extern const struct hb_resource_kind hb_policies_kind;
/* Adds the kind, once; on_change as in hb_policies_on_change. */
void hb_policies_init(void (*on_change)(void *arg), void *arg);

/* Adds or replaces (by hb_authz_policy_key); takes the policy. */
void hb_policies_put(struct hb_authz_policy *);
/* False when there is none. */
bool hb_policies_del(struct hb_str key);
const struct hb_authz_policy *hb_policies_find(struct hb_str key);
size_t hb_policies_count(void);
/* Several changes as one: views are rebuilt, and the change is told, when the outermost batch ends. */
void hb_policies_begin(void);
void hb_policies_end(void);
/* Called after views were rebuilt; for telling connections. NULL = nobody. */
void hb_policies_on_change(void (*fn)(void *arg), void *arg);
/* When no worker runs any more, after hb_workers_fini. */
void hb_policies_fini(void);

/* ------------------------------------------------------------------ views */

struct hb_policy_view_options { /* copied, but for what `own` points to */
	struct hb_str ns; /* of the workload; "" = that of no workload */
	/* Policies that the workload names; one that does not exist denies everything. */
	const char *const *names;
	size_t n_names;
	/* Policies of its own; borrowed as long as the view lives. Without `ns` all of them apply,
	 * whatever their scope, and without `names` those that workloads would have to name. */
	struct hb_authz_policy *const *own;
	size_t n_own;
	bool shared; /* the shared ones too */
};

struct hb_policy_view;
struct hb_policy_view *hb_policy_view_new(const struct hb_policy_view_options *);
/* When no worker uses it. */
void hb_policy_view_free(struct hb_policy_view **);
/* Any thread. Borrowed until the end of the loop turn. */
const struct hb_authz *hb_policy_view_get(const struct hb_policy_view *);

#endif
