/* groups.h: groups of lanes, merged. */
#ifndef PGR_INTERNAL_GROUPS_H
#define PGR_INTERNAL_GROUPS_H

#include "program/builder.h"

/* Makes the program's groups and lane inputs from the caller's. PGR_ERR_ARGUMENT for an impossible number of lanes. */
void program_merge_groups(builder *b, size_t group_count, const pgr_lane_group *groups);

#endif
