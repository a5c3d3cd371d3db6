/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * yields.h - counts the library's calls of sched_yield()
 *
 *   on_one_cpu()    the thread stays where it is; the CPU's number
 *   on_all_cpus()   and may go again
 */
#ifndef TESTS_YIELDS_H
#define TESTS_YIELDS_H

#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_uint yields;
static cpu_set_t all_cpus;

/* In the place of libc's. */
int sched_yield(void)
{
	yields++;
	return (int)syscall(SYS_sched_yield);
}

static int on_one_cpu(void)
{
	int cpu = sched_getcpu();
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_getaffinity(0, sizeof(all_cpus), &all_cpus);
	sched_setaffinity(0, sizeof(one), &one);
	return cpu;
}

static void on_all_cpus(void)
{
	sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
}

#endif
