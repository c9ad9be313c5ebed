// SPDX-License-Identifier: Apache-2.0
//
// A program that is not ours, under a name that Cilium uses: it counts connects.

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("cgroup/connect4")
int cil_sock4_connect(struct bpf_sock_addr *ctx)
{
	__u32 zero = 0;
	__u64 *connects = bpf_map_lookup_elem(&seen, &zero);
	if (connects)
		__sync_fetch_and_add(connects, 1);
	return 1;
}

char _license[] SEC("license") = "Apache-2.0";
