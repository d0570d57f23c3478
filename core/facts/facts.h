/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/facts/facts.h: what is known of a connection, in one place, for matchers, policies, logs and
 * filters.
 *
 * Facts are gathered by whoever learns them: the listener (addresses), listener filters (SNI, ALPN
 * offers, original addresses, PROXY TLVs), the transport (peer identity), the tunnel server
 * (authority, headers). They belong to the connection and live as long; strings added by setters
 * are copied into its arena. Facts of a stream point to those of the connection below (`parent`).
 */
#ifndef HB_CORE_FACTS_FACTS_H
#define HB_CORE_FACTS_FACTS_H

#include <sys/socket.h>
#include "core/base/err.h"
#include "core/base/str.h"

struct hb_cert_info;
struct hb_pack;   /* core/base/pack.h */
struct hb_unpack;

/* IPv4, IPv6, unix path (at most 107 bytes, abstract with leading NUL) or an internal name. An
 * abstract name ends at the first NUL after its leading one; a unix peer without a name has "\0",
 * that is two NULs. */
enum hb_addr_kind { HB_ADDR_NONE, HB_ADDR_V4, HB_ADDR_V6, HB_ADDR_UNIX, HB_ADDR_INTERNAL };

struct hb_addr {
	uint8_t  kind; /* enum hb_addr_kind */
	uint16_t port; /* host order        */
	/* Packed: a connection knows four addresses, and 4 bytes each would only align the name. */
	union {
		uint8_t     ip[16];    /* network order; V4 uses the first four */
		const char *name;      /* borrowed: unix path or internal name  */
	} __attribute__((packed, aligned(4))) u;
};

#define HB_ADDR_TEXT_MAX 128
/*
 * NONE for what is neither IP nor unix. A unix name is borrowed from the sockaddr, which must be
 * zeroed behind `len` (the kernel counts no NUL for abstract names).
 */
void hb_addr_from_sockaddr(struct hb_addr *, const struct sockaddr *, socklen_t);
/* 0 when the kind has no sockaddr. v4-mapped IPv6 becomes V4 in hb_addr_from_sockaddr. */
socklen_t hb_addr_to_sockaddr(const struct hb_addr *, struct sockaddr_storage *);
/* "10.0.0.1:80", "[::1]:80", unix path ("@name" when abstract), "envoy://name/", "-" for NONE.
 * Returns as snprintf. */
HB_EXPORT int  hb_addr_format(const struct hb_addr *, char *dst, size_t cap);
int  hb_addr_format_ip(const struct hb_addr *, char *dst, size_t cap); /* without port */
/* "1.2.3.4" or "::1" (no brackets, no port, no zone); v4-mapped becomes V4. False = not an IP
 * address, then *ret is untouched. */
bool hb_addr_parse_ip(struct hb_str text, struct hb_addr *ret);
/* "1.2.3.4:80", "[::1]:80". */
bool hb_addr_parse(struct hb_str text, struct hb_addr *ret);
bool hb_addr_eq(const struct hb_addr *, const struct hb_addr *); /* with port */
bool hb_addr_ip_eq(const struct hb_addr *, const struct hb_addr *);
bool hb_addr_is_loopback(const struct hb_addr *);

/* CIDR range of either family. */
struct hb_cidr {
	uint8_t kind, len;
	uint8_t ip[16];
};
/* Bits behind the prefix are cleared; a v4-mapped prefix (from /96 on) becomes its IPv4 range. */
int  hb_cidr_parse(struct hb_str prefix, unsigned len, struct hb_cidr *ret, struct hb_err *reterr);
bool hb_cidr_contains(const struct hb_cidr *, const struct hb_addr *);

/* Bytes of one owner, freed together. Blocks come only on first use, at most 2 GiB in all. */
struct hb_arena {
	void *head; /* private */
};
size_t hb_arena_used(const struct hb_arena *); /* bytes handed out */
void *hb_arena_alloc(struct hb_arena *, size_t n); /* zeroed, aligned to 8 */
HB_EXPORT struct hb_str hb_arena_str(struct hb_arena *, struct hb_str s); /* copy, NUL-terminated */
void  hb_arena_fini(struct hb_arena *);
/* Copies an address together with the name that it borrows. */
void  hb_addr_copy(struct hb_arena *, struct hb_addr *to, const struct hb_addr *from);
/* With the name; of which the unpacked one has a copy. */
void  hb_addr_pack(const struct hb_addr *, struct hb_pack *);
void  hb_addr_unpack(struct hb_arena *, struct hb_addr *ret, struct hb_unpack *);

/* Dynamic metadata and filter state are small lists: namespace + key -> text. */
struct hb_fact_entry {
	struct hb_fact_entry *next;
	struct hb_str ns;    /* metadata namespace; "" for filter state           */
	struct hb_str key;
	struct hb_str value;
	uint8_t shared;      /* filter state: 0 none, 1 once, 2 transitive        */
	bool    read_only;
	bool    is_address;  /* value is an IP address in text form, with or without port */
};
#define HB_FACT_ENTRIES_MAX 64u /* of each list; more are refused (counted by the caller) */

#define HB_FACTS_ALPN_MAX 16

/*
 * Keeps facts that others point to: those of a connection live until the streams that it carries
 * are gone. On one worker.
 */
struct hb_facts_owner {
	uint32_t refs;
	void (*free_fn)(struct hb_facts_owner *); /* the last reference is gone */
};
void hb_facts_unref(struct hb_facts_owner **);

/* What the first bytes said, before any handshake. */
struct hb_facts_hello {
	struct hb_str   sni;             /* lower case; from the ClientHello or the TLS transport     */
	struct hb_str  *alpn;            /* n_alpn, offered by the client, in its order: _alpn_add    */
	const char     *transport_protocol; /* "tls" or "raw_buffer"; outlives all; NULL = the latter    */
	uint8_t         n_alpn;
};

/* What a handshake of ours has found out. */
struct hb_facts_tls {
	struct hb_str   principal;       /* SPIFFE id of the verified peer; "" = none                 */
	struct hb_str   alpn_chosen;
	const struct hb_cert_info *peer_cert;  /* borrowed from the transport; NULL = none             */
	const struct hb_cert_info *local_cert;
	const char     *version, *cipher;
	bool            resumed;         /* the handshake resumed a session                           */
};

/* Parts that few have come into the arena when they are set. */
struct hb_facts {
	const struct hb_facts *parent;   /* of the connection that carries this stream; NULL = socket */
	struct hb_facts_owner keep;      /* of these; no references: they are kept otherwise          */
	struct hb_arena arena;
	struct hb_addr  local;           /* effective: restored by original_dst / PROXY / authority   */
	struct hb_addr  remote;          /* effective: from PROXY protocol or forwarded               */
	struct hb_addr *direct;          /* private: hb_facts_direct_…; local and remote              */
	struct hb_facts_hello *hello;    /* private: hb_facts_hello, _hello_edit                      */
	struct hb_facts_tls *tls;        /* private: hb_facts_tls, _tls_edit                          */
	struct hb_str   authority;       /* of a tunnel stream                                        */
	struct hb_fact_entry *metadata, *filter_state;
	uint8_t         n_metadata, n_filter_state;
	bool            local_restored;
	bool            parent_kept;     /* a reference to the parent is held; else it outlives these */
};

void hb_facts_init(struct hb_facts *);
void hb_facts_fini(struct hb_facts *);
/* Zeroes when there is nothing; until the next edit. */
HB_EXPORT const struct hb_facts_hello *hb_facts_hello(const struct hb_facts *);
/* "raw_buffer" while nothing else is known. */
HB_EXPORT struct hb_str hb_facts_transport_protocol(const struct hb_facts *);
HB_EXPORT const struct hb_facts_tls *hb_facts_tls(const struct hb_facts *);
/* To set what is in them. */
HB_EXPORT struct hb_facts_hello *hb_facts_hello_edit(struct hb_facts *);
HB_EXPORT struct hb_facts_tls *hb_facts_tls_edit(struct hb_facts *);
/* All of a ClientHello at once: the names are copied, into one piece; at most HB_FACTS_ALPN_MAX of
 * `alpn`. */
void hb_facts_hello_set(struct hb_facts *, struct hb_str sni, const struct hb_str *alpn, unsigned n);
/* Of the socket itself, below all streams. Equal to the effective ones unless kept apart before
 * those were replaced. */
HB_EXPORT const struct hb_addr *hb_facts_direct_local(const struct hb_facts *);
HB_EXPORT const struct hb_addr *hb_facts_direct_remote(const struct hb_facts *);
/* Whoever replaces local or remote of a socket's connection calls it before. */
HB_EXPORT void hb_facts_keep_direct(struct hb_facts *);
/* One more protocol that the client offers; copied. False: HB_FACTS_ALPN_MAX are there. */
bool hb_facts_alpn_add(struct hb_facts *, struct hb_str name);
/* Sets the parent and takes a reference to it. Once. */
void hb_facts_set_parent(struct hb_facts *, struct hb_facts *parent);
/*
 * Deep copy of everything but the certificates (for a dial that outlives its connection). `to` is
 * initialised. It has no parent: what hb_facts_state would find in the parents is taken along.
 */
void hb_facts_copy(struct hb_facts *to, const struct hb_facts *from);
/*
 * For connections that rest. Not packable: what a handshake of ours has found out, whose certificates
 * are the transport's, and more than HB_FACTS_PACK_MAX bytes of texts. Packing takes everything but
 * `keep`, the reference to the parent included, and leaves the facts as initialised; unpacking fills
 * such facts, whose arena may be in use. Fits into HB_FACTS_PACKED_MAX bytes.
 */
#define HB_FACTS_PACK_MAX   2048u
#define HB_FACTS_PACKED_MAX 8192u
bool hb_facts_packable(const struct hb_facts *);
void hb_facts_pack(struct hb_facts *, struct hb_pack *);
void hb_facts_unpack(struct hb_facts *, struct hb_unpack *);
/*
 * False when the list is full, or the entry exists and is read-only. Replaces otherwise; a value
 * got before from the lookups below is then no longer valid.
 */
HB_EXPORT bool hb_facts_metadata_set(struct hb_facts *, struct hb_str ns, struct hb_str key,
    struct hb_str value);
HB_EXPORT bool hb_facts_state_set(struct hb_facts *, struct hb_str key, struct hb_str value, bool read_only,
    uint8_t shared);
/*
 * p == NULL = not there. filter state is looked up in the parents too. Facts with an authority answer
 * HB_STATE_AUTHORITY by it, and HB_STATE_PEER_PRINCIPAL by the principal of their parent, unless an
 * entry says otherwise.
 */
HB_EXPORT struct hb_str hb_facts_metadata(const struct hb_facts *, struct hb_str ns, struct hb_str key);
HB_EXPORT struct hb_str hb_facts_state(const struct hb_facts *, struct hb_str key);
/*
 * The facts that hold the identity of the peer: of this connection, or, when it is plaintext inside
 * a tunnel, of the nearest connection below it that has one. TLS without a certificate says that
 * nobody is known, whoever carries it. NULL = nobody is known.
 */
const struct hb_facts *hb_facts_identity(const struct hb_facts *);
/* Of the connection at the bottom, which no other carries. */
const struct hb_facts *hb_facts_root(const struct hb_facts *);
/* The whole entry; NULL = not there, or there is only an answer without one. */
const struct hb_fact_entry *hb_facts_state_entry(const struct hb_facts *, struct hb_str key);

/* Well-known filter state keys. */
#define HB_STATE_TCP_PROXY_CLUSTER "envoy.tcp_proxy.cluster"
#define HB_STATE_UPSTREAM_SERVER_NAME "envoy.network.upstream_server_name"
#define HB_STATE_ORIGINAL_DST "envoy.network.transport_socket.original_dst_address"
#define HB_STATE_IDLE_TIMEOUT "envoy.tcp_proxy.per_connection_idle_timeout_ms"
#define HB_STATE_AUTHORITY "io.istio.connect_authority" /* of a tunnel stream */
#define HB_STATE_PEER_PRINCIPAL "io.istio.peer_principal"
/* Namespace of metadata: headers of the request that made a tunnel stream, by lower-case name, with
 * ":method"; lines of one name joined by commas. The authority is a fact of its own. */
#define HB_META_REQUEST "hbone.request"
/* Namespace of metadata: "baggage" of the answer to the tunnel request that reached the upstream. */
#define HB_META_RESPONSE "hbone.response"
/* Namespace of metadata: TLVs of the downstream's PROXY header that a PROXY header to the upstream
 * repeats; keys "0x00" … "0xff" (lower-case hex), raw values. */
#define HB_META_PROXY_TLVS "hbone.proxy_protocol.tlvs"

#endif
