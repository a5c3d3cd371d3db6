#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck disable=SC1091
#
# A part of the matrix of impairments (the hosts are in matrix.sh): each kind,
# each delay and each option of the peer's at least once.
set -u
cd "$(dirname "$0")" && . ./lib.sh && . ./matrix.sh
ALL=sack,timestamps,window_scaling

matrix_up
batch 0 $ALL none
batch 100 $ALL none
batch 0 $ALL loss=0.1
batch 10 $ALL loss=1
batch 0 timestamps,window_scaling loss=1
batch 10 sack,window_scaling loss=5
batch 100 sack,timestamps loss=1
batch 0 $ALL loss=5
batch 10 none loss=1
batch 10 $ALL burst=0.5/33
batch 0 $ALL reorder=3/1ms
batch 10 window_scaling reorder=3/3ms
batch 0 sack duplicate=5
batch 10 $ALL corrupt=1
batch 100 $ALL loss=0.01,reorder=1/5ms,duplicate=1,corrupt=0.1
matrix_down
finish
