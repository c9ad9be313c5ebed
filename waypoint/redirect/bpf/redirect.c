// SPDX-License-Identifier: Apache-2.0
//
// Six small programs on a cgroup: connects to a service port that needs L7 go to a waypoint, the
// original address is what getpeername() answers, and UDP to such a port may be refused. Whatever
// is not in the table passes untouched.
//
// The whole table has an epoch. A connect reads the live epoch once and looks only at elements of
// that epoch, so it sees one whole table, never half of two.

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "redirect.h"

#define PASS 1
#define REJECT 0
#define MAPPED bpf_htonl(0xffff)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} wp_live SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct settings);
} wp_settings SEC(".maps");

// Twice the bound on service ports, for two epochs.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * 65536);
	__type(key, struct key);
	__type(value, struct entry);
} wp_entries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * 131072);
	__type(key, struct key);
	__type(value, __u8);
} wp_refusals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * 1024);
	__type(key, struct exempt_key);
	__type(value, __u8);
} wp_exempt SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TOTALS);
	__type(key, __u32);
	__type(value, __u64);
} wp_totals SEC(".maps");

// The agent makes and removes the elements; a program only counts where one is.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct key);
	__type(value, struct service);
} wp_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct original);
} wp_original SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *total = bpf_map_lookup_elem(&wp_totals, &which);
	if (total)
		(*total)++;
}

static __always_inline struct service *service_of(const struct key *key)
{
	struct key whole = *key;
	whole.epoch = 0;
	return bpf_map_lookup_elem(&wp_services, &whole);
}

static __always_inline int refuse(void)
{
	bpf_set_retval(-ECONNREFUSED);
	return REJECT;
}

static __always_inline void key_of(struct key *key, struct bpf_sock_addr *ctx, bool v6, __u8 epoch)
{
	if (v6) {
		key->ip[0] = ctx->user_ip6[0];
		key->ip[1] = ctx->user_ip6[1];
		key->ip[2] = ctx->user_ip6[2];
		key->ip[3] = ctx->user_ip6[3];
	} else {
		key->ip[0] = 0;
		key->ip[1] = 0;
		key->ip[2] = MAPPED;
		key->ip[3] = ctx->user_ip4;
	}
	key->port = ctx->user_port;
	key->epoch = epoch;
	key->zero = 0;
}

// The process in an exempt cgroup or below it, a socket with the mark, a socket of the agent's own
// network namespace. Asked only after a hit, so the rest of the traffic does not pay for it.
static __always_inline bool is_exempt(struct bpf_sock_addr *ctx, const struct settings *settings,
				      __u32 epoch)
{
	if (settings->flags & SETTINGS_MARK && (ctx->sk->mark & settings->mask) == settings->mark)
		return true;
	if (settings->flags & SETTINGS_NETNS && bpf_get_netns_cookie(ctx) == settings->netns)
		return true;
	if (!(settings->flags & SETTINGS_CGROUPS))
		return false;
	for (int level = 0; level < CGROUP_DEPTH_MAX; level++) {
		struct exempt_key key = { .epoch = epoch };
		key.cgroup = bpf_get_current_ancestor_cgroup_id(level);
		if (!key.cgroup)
			return false;
		if (bpf_map_lookup_elem(&wp_exempt, &key))
			return true;
	}
	return false;
}

// A target by weight, or null if none is ready. To a loader without CAP_PERFMON the verifier refuses a
// pointer to one of several places that it knows; the field that is always 0 makes it one that it
// does not know, and only bounds.
static __always_inline const struct target *choose(const struct entry *entry)
{
	__u32 at = ((__u64)bpf_get_prandom_u32() * entry->total) >> 32;
	__u32 chosen = entry->targets[0].zero;
	for (int i = 0; i < TARGETS_MAX; i++) {
		if (at < entry->targets[i].upto)
			return &entry->targets[(chosen + i) & (TARGETS_MAX - 1)];
	}
	return 0;
}

// The last redirected connect of a socket counts, not the first: a socket may be connected again.
static __always_inline void remember(struct bpf_sock_addr *ctx, const struct key *key,
				     const struct target *target)
{
	struct original *original =
		bpf_sk_storage_get(&wp_original, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!original) {
		count(TOTAL_UNREMEMBERED);
		return;
	}
	for (int i = 0; i < 4; i++) {
		original->ip[i] = key->ip[i];
		original->target_ip[i] = target->ip[i];
	}
	original->port = key->port;
	original->target_port = target->port;
}

static __always_inline int pass(struct bpf_sock_addr *ctx, __u32 why)
{
	// This connect is not ours: an earlier one of the same socket must not name its peer.
	bpf_sk_storage_delete(&wp_original, ctx->sk);
	count(why);
	return PASS;
}

static __always_inline int redirect(struct bpf_sock_addr *ctx, bool v6, const struct key *key,
				    const struct target *target)
{
	remember(ctx, key, target);
	if (v6) {
		ctx->user_ip6[0] = target->ip[0];
		ctx->user_ip6[1] = target->ip[1];
		ctx->user_ip6[2] = target->ip[2];
		ctx->user_ip6[3] = target->ip[3];
	} else {
		ctx->user_ip4 = target->ip[3]; // the agent gives IPv4 services no other targets
	}
	ctx->user_port = target->port;
	count(TOTAL_REDIRECTED);
	return PASS;
}

static __always_inline int tcp(struct bpf_sock_addr *ctx, bool v6, struct key *key,
			       const struct settings *settings)
{
	const struct entry *entry = bpf_map_lookup_elem(&wp_entries, key);
	if (!entry) {
		if (!(settings->flags & SETTINGS_REFUSALS) ||
		    !bpf_map_lookup_elem(&wp_refusals, key))
			return pass(ctx, TOTAL_MISSED);
		if (is_exempt(ctx, settings, key->epoch))
			return pass(ctx, TOTAL_EXEMPT);
		count(TOTAL_REFUSED_FULL);
		return refuse();
	}
	if (is_exempt(ctx, settings, key->epoch))
		return pass(ctx, TOTAL_EXEMPT);

	struct service *service = service_of(key);
	const struct target *target = choose(entry);
	if (target) {
		if (service)
			service->redirected++;
		return redirect(ctx, v6, key, target);
	}
	if (entry->flags & ENTRY_DIRECT) {
		if (service)
			service->direct++;
		return pass(ctx, TOTAL_DIRECT);
	}
	if (service)
		service->refused++;
	count(TOTAL_REFUSED);
	return refuse();
}

static __always_inline int udp(struct bpf_sock_addr *ctx, struct key *key,
			       const struct settings *settings)
{
	if (!(settings->flags & SETTINGS_UDP))
		return PASS;
	const struct entry *entry = bpf_map_lookup_elem(&wp_entries, key);
	if (!entry || !(entry->flags & ENTRY_REFUSE_UDP))
		return PASS;
	if (is_exempt(ctx, settings, key->epoch))
		return PASS;
	struct service *service = service_of(key);
	if (service)
		service->refused_udp++;
	count(TOTAL_REFUSED_UDP);
	return refuse();
}

static __always_inline int decide(struct bpf_sock_addr *ctx, bool v6)
{
	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return PASS;
	__u32 zero = 0;
	const __u32 *live = bpf_map_lookup_elem(&wp_live, &zero);
	if (!live)
		return PASS; // never: an array of one has its element
	__u32 epoch = *live & 1;
	const struct settings *settings = bpf_map_lookup_elem(&wp_settings, &epoch);
	if (!settings)
		return PASS; // never: an array of two
	struct key key;
	key_of(&key, ctx, v6, epoch);
	if (ctx->protocol == IPPROTO_UDP)
		return udp(ctx, &key, settings);
	return tcp(ctx, v6, &key, settings);
}

// The original address, only if the peer is what we made of it: another program may have changed
// it again, and then the kernel's own answer is the honest one.
static __always_inline int name_peer(struct bpf_sock_addr *ctx, bool v6)
{
	const struct original *original = bpf_sk_storage_get(&wp_original, ctx->sk, 0, 0);
	if (!original)
		return PASS;
	struct key peer;
	key_of(&peer, ctx, v6, 0);
	if (peer.port != original->target_port || peer.ip[0] != original->target_ip[0] ||
	    peer.ip[1] != original->target_ip[1] || peer.ip[2] != original->target_ip[2] ||
	    peer.ip[3] != original->target_ip[3])
		return PASS;
	if (v6) {
		ctx->user_ip6[0] = original->ip[0];
		ctx->user_ip6[1] = original->ip[1];
		ctx->user_ip6[2] = original->ip[2];
		ctx->user_ip6[3] = original->ip[3];
	} else {
		ctx->user_ip4 = original->ip[3];
	}
	ctx->user_port = original->port;
	return PASS;
}

SEC("cgroup/connect4")
int wp_connect4(struct bpf_sock_addr *ctx)
{
	return decide(ctx, false);
}

SEC("cgroup/connect6")
int wp_connect6(struct bpf_sock_addr *ctx)
{
	return decide(ctx, true);
}

SEC("cgroup/sendmsg4")
int wp_sendmsg4(struct bpf_sock_addr *ctx)
{
	return decide(ctx, false);
}

SEC("cgroup/sendmsg6")
int wp_sendmsg6(struct bpf_sock_addr *ctx)
{
	return decide(ctx, true);
}

SEC("cgroup/getpeername4")
int wp_peername4(struct bpf_sock_addr *ctx)
{
	return name_peer(ctx, false);
}

SEC("cgroup/getpeername6")
int wp_peername6(struct bpf_sock_addr *ctx)
{
	return name_peer(ctx, true);
}

// No helper that is called here is kept for GPL programs, so the licence is the project's own.
char _license[] SEC("license") = "Apache-2.0";
