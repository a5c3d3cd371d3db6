/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * main.c - tas-xdp: Linux opens and closes connections, the fast path carries
 *
 * Exit status: 0 asked to end, 1 failure, 2 wrong command line, 128 + N when
 * the daemon was ended by signal N.
 */
#include "slowpath/guardian.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
	struct options o;

	switch (options_parse(argc, argv, &o)) {
	case OPTIONS_RUN:
		break;
	case OPTIONS_DONE:
		return EXIT_SUCCESS;
	case OPTIONS_USAGE:
		return 2;
	}
	log_set_level(o.log);
	return guardian_run(&o);
}
