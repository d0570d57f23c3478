/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/event/table.h: frozen objects shared by all workers, replaced without locks.
 *
 * The control thread is the only writer. Workers read at any time and may use what they read until
 * their loop turn ends; who keeps a pointer longer pins the object with a counter of its own
 * (worker-local, or posts the release to the control thread). An object that is replaced or
 * removed is freed on the control thread after every worker has passed the end of a loop turn
 * (quiescent-state reclamation); retirements of one control turn share one pass.
 */
#ifndef HB_CORE_EVENT_TABLE_H
#define HB_CORE_EVENT_TABLE_H

#include "core/base/str.h"
#include "core/event/worker.h"

/* Control thread: fn(obj) runs here once no worker can hold `obj`. */
void hb_retire(void *obj, void (*fn)(void *obj));
/* Control thread: done(arg) once everything retired before has been freed. */
void hb_retire_barrier(void (*done)(void *arg), void *arg);

struct hb_table;
struct hb_table *hb_table_new(void (*free_obj)(void *obj));
/* Retires all objects. */
void  hb_table_free(struct hb_table **);
/* Any thread. NULL = not there. */
void *hb_table_get(const struct hb_table *, struct hb_str name);
/* Control thread. Replaces (and retires) what was there. */
void  hb_table_put(struct hb_table *, struct hb_str name, void *obj);
/* Control thread. False when not there. */
bool  hb_table_del(struct hb_table *, struct hb_str name);
size_t hb_table_count(const struct hb_table *);
/* Control thread only; no order; no change while iterating. */
void  hb_table_foreach(const struct hb_table *,
    void (*fn)(void *arg, struct hb_str name, void *obj), void *arg);

#endif
