// SPDX-License-Identifier: BSD-2-Clause
/*
 * occupy - hold what tas-xdp needs, so that it must say so
 *
 *   occupy queue IF QUEUE   an AF_XDP socket (copy mode) on the queue
 *   occupy xdp IF           an XDP program that passes all frames, by a BPF
 * link
 *
 * Says "occupied" on stdout and stays until it is ended.
 */
#include "io.h"

#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define UMEM_SIZE (64ul * 4096ul)

static void occupy_queue(const char *ifname, uint32_t queue)
{
	struct sockaddr_xdp sx = {.sxdp_family = AF_XDP,
				  .sxdp_flags = XDP_COPY,
				  .sxdp_ifindex = if_nametoindex(ifname),
				  .sxdp_queue_id = queue};
	struct xdp_umem_reg reg = {.len = UMEM_SIZE, .chunk_size = 4096};
	void *umem = mmap(NULL, UMEM_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int s = socket(AF_XDP, SOCK_RAW, 0), n = 64;

	reg.addr = (uint64_t)(uintptr_t)umem;
	if (s < 0 || umem == MAP_FAILED ||
	    setsockopt(s, SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg)) < 0 ||
	    setsockopt(s, SOL_XDP, XDP_UMEM_FILL_RING, &n, sizeof(n)) < 0 ||
	    setsockopt(s, SOL_XDP, XDP_UMEM_COMPLETION_RING, &n, sizeof(n)) <
		    0 ||
	    setsockopt(s, SOL_XDP, XDP_RX_RING, &n, sizeof(n)) < 0 ||
	    bind(s, (struct sockaddr *)&sx, sizeof(sx)) < 0)
		io_die("AF_XDP socket");
}

static int bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static void occupy_xdp(const char *ifname)
{
	/* r0 = XDP_PASS; exit */
	struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr load = {.prog_type = BPF_PROG_TYPE_XDP};
	union bpf_attr link = {0};

	load.insn_cnt = 2;
	load.insns = (uint64_t)(uintptr_t)insns;
	load.license = (uint64_t)(uintptr_t) "BSD";
	link.link_create.prog_fd = (uint32_t)bpf(BPF_PROG_LOAD, &load);
	link.link_create.target_ifindex = if_nametoindex(ifname);
	link.link_create.attach_type = BPF_XDP;
	if (bpf(BPF_LINK_CREATE, &link) < 0)
		io_die("XDP link");
}

int main(int argc, char **argv)
{
	setlinebuf(stdout);
	if (argc == 4 && !strcmp(argv[1], "queue"))
		occupy_queue(argv[2], (uint32_t)atoi(argv[3]));
	else if (argc == 3 && !strcmp(argv[1], "xdp"))
		occupy_xdp(argv[2]);
	else
		return 2;
	printf("occupied\n");
	for (;;)
		pause();
}
