#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091
#
# The whole matrix of impairments (the hosts are in matrix.sh): every kind with
# every delay and every set of the peer's options. PATTERN=... takes those
# batches alone whose "DELAY OPTIONS IMPAIRMENT" it matches.
set -u
cd "$(dirname "$0")" && . ./lib.sh && . ./matrix.sh
: "${PATTERN:=.}"

matrix_up
for impairment in none loss=0.01 loss=0.1 loss=1 loss=5 burst=0.5/33 \
	reorder=3/3ms duplicate=3 corrupt=1; do
	for delay in 0 10 100; do
		for options in {sack,}-{timestamps,}-{window_scaling,}; do
			[ "$options" != -- ] || options=none
			[[ "$delay $options $impairment" =~ $PATTERN ]] ||
				continue
			batch $delay "$options" $impairment
		done
	done
done
matrix_down
finish
