"""`make chaos`: break everything while events flow, then compare with a run in which nothing broke.

`traffic` and `attacks` say what is sent (pure: the same seed, the same events), `sending` sends it and knows
what Kafka acknowledged, `stage` holds the processes, `faults` breaks them round by round, `topics` and
`stored` read what Kafka and the store hold afterwards, `verdict` compares, `run` puts it together.

The reference is a real worker with a fresh store that reads the very same messages, at the same offsets, and
is left in peace. So a row's identity and its content must agree, not only counts, and so must the revisions
of every alert. Nothing in the traffic depends on the wall clock: event times lie in the past, and the last
events of each tenant are hours after all others, so that every episode is resolved by event time.
"""
