// SPDX-License-Identifier: Apache-2.0
//
// What the programs and the agent agree on: the layout of keys and values. src/kernel/layout.rs
// says the same in Rust. Whoever changes a line here raises LAYOUT there.
#pragma once

#include <linux/types.h>

#define TARGETS_MAX 16
#define SERVICE_MAX 140
#define CGROUP_DEPTH_MAX 32

// An address and a port. IPv4 stands as ::ffff:a.b.c.d, so there is one form of key. Words and port
// are in network order.
struct key {
	__u32 ip[4];
	__u16 port;
	__u8 epoch; // 0 in `services`, which outlives epochs
	__u8 zero;
};

struct target {
	__u32 ip[4];
	__u16 port;
	__u16 zero;
	__u32 upto; // the sum of the weights up to this target, its own included
};

enum entry_flags {
	ENTRY_DIRECT = 1, // without a target: go direct; otherwise refuse
	ENTRY_REFUSE_UDP = 2,
};

struct entry {
	__u32 total; // the sum of all weights; 0: no target is ready
	__u32 flags;
	char service[SERVICE_MAX]; // for people who look at the map
	struct target targets[TARGETS_MAX];
};

enum settings_flags {
	SETTINGS_NETNS = 1,    // leave sockets of `netns` alone
	SETTINGS_MARK = 2,     // leave sockets with `mark` alone
	SETTINGS_CGROUPS = 4,  // `exempt` is not empty
	SETTINGS_REFUSALS = 8, // `refusals` is not empty
	SETTINGS_UDP = 16,     // some entry refuses UDP
};

// One per epoch.
struct settings {
	__u64 netns;
	__u32 mark;
	__u32 mask;
	__u32 flags;
	__u32 zero;
};

struct exempt_key {
	__u64 cgroup;
	__u32 epoch;
	__u32 zero;
};

enum total {
	TOTAL_MISSED,         // no entry: not ours
	TOTAL_REDIRECTED,     // to a waypoint
	TOTAL_DIRECT,         // an entry without a ready target, direct by choice
	TOTAL_EXEMPT,         // an entry, but the socket is exempt
	TOTAL_REFUSED,        // an entry without a ready target
	TOTAL_REFUSED_FULL,   // the port did not fit into the table
	TOTAL_REFUSED_UDP,    // UDP to a port that refuses it
	TOTAL_UNREMEMBERED,   // redirected, but without memory for the original address
	TOTALS
};

struct service {
	__u64 redirected;
	__u64 direct;
	__u64 refused;
	__u64 refused_udp;
};

// What a socket asked for, and what it got.
struct original {
	__u32 ip[4];
	__u32 target_ip[4];
	__u16 port;
	__u16 target_port;
};
