"""`hsim`: a workload run through the real controller core and planner with a virtual clock.

`trace` reads workloads, `machine` makes the cluster, `engine` runs the clock over `State`, `apply` and `Cycle`, with
`making_room` where jobs make room for others; `metrics` and `report` say what came out, `compare` sets two
configurations side by side, `placement` and `passes` try single parts of the planner.  Nothing of the scheduling is
written twice: a policy here is the policy of helixctld.
"""
